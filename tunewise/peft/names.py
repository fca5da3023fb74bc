"""Names in PEFT's folders: of files, of tensors, and of the layers of transformers.

"Theirs" is the name of a layer in transformers, "ours" the names of our layers that it holds.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tunewise.models import LanguageModel
from tunewise.models.catalog import KNOWN_MODELS, POCKET
from tunewise.models.folder import find_folder
from tunewise.models.names import TensorName
from tunewise.models.weights import LANGUAGE_HEAD

ADAPTER_CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

LAYERS_NAME_PREFIX = "base_model.model."
"""The name prefix of tensors in an adapter of layers."""
VIRTUAL_TOKENS_NAME_PREFIX = "base_model."
"""The name prefix of the label layer in an adapter of virtual tokens."""
PROMPT = "prompt_embeddings"
"""The tensor of virtual tokens: a soft prompt's, or a prefix's keys and values."""
LORA_A = "lora_A.weight"
LORA_B = "lora_B.weight"
MAGNITUDE = "lora_magnitude_vector"
"""The lengths of a layer's rows, in an adapter of DoRA."""
IA3_SCALE = "ia3_l"
OUTPUT_LAYER = "lm_head"
LABEL_LAYER = "score"
OTHER_LABEL_LAYER = "classifier"
"""The label layer's name in other families: PEFT always names both in modules_to_save."""
ADAPTER_NAME = "default"
"""The name under which PEFT loads an adapter; some files keep it in the names of tensors."""


class LayerInBlock(NamedTuple):
    """A layer of transformers that lies in a block."""

    block: int
    name: str
    """Name of the layer within the block."""


def layers_of_transformers(model: LanguageModel) -> dict[str, tuple[str, ...]]:
    """Return our names of the layers that each layer of transformers holds, by its name there."""
    layers = {
        model.name_prefix + stored.theirs.removesuffix(".weight"): tuple(
            name.removesuffix(".weight") for name in stored.ours
        )
        for stored in model.stored_tensors()
        if stored.theirs.endswith(".weight")
    }
    return layers if model.num_labels is not None else layers | {OUTPUT_LAYER: ("head",)}


def weights_of_transformers(model: LanguageModel) -> dict[str, TensorName]:
    """Return every tensor of transformers' model but a label layer, by its whole name there."""
    weights = {model.name_prefix + stored.theirs: stored for stored in model.stored_tensors()}
    if model.num_labels is None:
        weights[LANGUAGE_HEAD] = TensorName(LANGUAGE_HEAD, ("head.weight",))
    elif model.config.tied:
        weights[LANGUAGE_HEAD] = TensorName(LANGUAGE_HEAD, ("token_embedding.weight",))
    return weights


def layer_in_block(theirs: str, model: LanguageModel) -> LayerInBlock | None:
    """Return the block and the name of a layer of transformers; None if it is in no block."""
    before, after = map(re.escape, (model.name_prefix + model.block_name).split("{}"))
    match = re.fullmatch(rf"{before}(\d+){after}\.(.+)", theirs)
    return None if match is None else LayerInBlock(int(match[1]), match[2])


def weights_are_transposed(model: LanguageModel) -> bool:
    """Return whether transformers keeps the weights of linear layers as (in, out)."""
    return any(stored.transposed for stored in model.stored_tensors())


def base_model_name(model: str) -> str:
    """Return the name by which transformers loads a model: its hub id, or its folder's full path.

    Args:
        model: its name in a configuration.
    """
    if model in KNOWN_MODELS and model != POCKET:
        return KNOWN_MODELS[model].home
    is_folder = model == POCKET or Path(model).is_dir()
    return str(find_folder(model).absolute()) if is_folder else model


def public_name(model: str) -> str | None:
    """Return the name under which everyone can get a model, its hub id; None for a local folder.

    Args:
        model: its name in a configuration.
    """
    if model in KNOWN_MODELS:
        return None if model == POCKET else KNOWN_MODELS[model].home
    return None if Path(model).is_absolute() or Path(model).is_dir() else model


def has_weights(model: LanguageModel) -> bool:
    """Return whether a model is more than a shape, so that what is said of it is said once."""
    return not model.get_parameter("head.weight").is_meta
