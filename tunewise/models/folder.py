"""Model folders in Hugging Face layout: found by name, read, and written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tunewise.errors import ModelError, nearest
from tunewise.json_text import to_json
from tunewise.models import FAMILIES, LanguageModel, ModelConfig
from tunewise.models.catalog import KNOWN_MODELS, POCKET
from tunewise.models.hub import fetch_small_files, hub_id_of
from tunewise.models.other_kinds import describe
from tunewise.models.tensors import (
    check_layers,
    check_shapes,
    head_differs,
    read_weights,
    write_weights,
)
from tunewise.models.weights import WEIGHTS, has_weights, read_json
from tunewise.settings import validate

POCKET_FOLDER = Path(__file__).parent.parent / "pocket" / "model"
MAX_LAYERS = 1000
MAX_SIZE = 2**24
"""Largest vocabulary, width or context in a config.json: they are allocated before weights are
read."""
SYNONYMS = {"gelu_pytorch_tanh": "gelu_new"}
"""Values of a config.json that mean the same as another: two names of GELU by tanh."""
FIXED: Mapping[str, Any] = {"quantization_config": None, "is_encoder_decoder": False}
"""Fields of a config.json of which only this value is supported, in every family."""


def find_folder(name: str) -> Path:
    """Return the local folder of a model: known by name, a folder already, or a hub id to fetch.

    Of a model on the hub, the folder has the small files; `fetch_weights` adds the weights.

    Raises:
        ModelError: if there is no such model, or the hub cannot be reached.
    """
    if name == POCKET:
        return POCKET_FOLDER
    hub_id = hub_id_of(name)
    return Path(name) if hub_id is None else fetch_small_files(hub_id)


def read_config(folder: Path) -> ModelConfig:
    """Return the shape of the model in a folder.

    Raises:
        ModelError: if config.json is missing, broken, of an unknown family, or has a value that
            is not supported.
        ConfigError: if a field of it has an impossible value.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ModelError(f"{path}: no such file; {describe(folder)}")
    values = read_json(path)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ModelError(
            f"{path}: model_type {kind!r} is not supported; {nearest(str(kind), FAMILIES)}"
        )
    family = FAMILIES[kind]
    config_type = family.config_type
    for field, needed in {**FIXED, **family.fixed}.items():
        value = values.get(field, needed)
        if SYNONYMS.get(str(value), value) != needed:
            raise ModelError(f"{path}: {field} is {value!r}; only {needed!r} is supported")
    try:
        ours = config_type.from_hugging_face(values)
    except KeyError as error:
        raise ModelError(f"{path}: {error.args[0]} is missing, which {kind} needs") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a {kind} configuration: {error!r}") from error
    for field, value in ours.items():
        maximum = MAX_LAYERS if field == "num_layers" else MAX_SIZE
        kind_of_field = config_type.model_fields[field].annotation
        is_size = kind_of_field is int or (kind_of_field == int | None and value is not None)
        if is_size and not (type(value) is int and 0 < value <= maximum):
            raise ModelError(
                f"{path}: {field} is {value!r}; a whole number from 1 to {maximum:,} is needed"
            )
    return validate(config_type, ours, str(path))


def read_shape(folder: Path) -> ModelConfig:
    """Return what `read_config` does; an output layer is untied if the weights say so.

    Raises:
        TunewiseError: as `read_config`.
    """
    config = read_config(folder)
    if not has_weights(folder):  # they may not be fetched yet
        return config
    check_layers(folder, config.num_layers)
    model = build_model(config)
    check_shapes(folder, model)
    try:
        untied = config.tied and head_differs(model, folder)
    except ModelError:  # loading tells of damage
        untied = False
    return config.model_copy(update={"tied": False}) if untied else config


def shape_of(name: str) -> ModelConfig:
    """Return the shape of a model by its name, hub id or folder; a known one needs no file."""
    return KNOWN_MODELS[name].config if name in KNOWN_MODELS else read_shape(find_folder(name))


def build_model(config: ModelConfig, device: str = "meta") -> LanguageModel:
    """Return a model of this shape with no weights yet (`meta`), or with arbitrary ones."""
    build: Any = FAMILIES[config.family]  # each family takes its own kind of configuration
    with torch.device(device):
        model: LanguageModel = build(config)
    return model


def load_model(folder: Path, num_labels: int | None = None, head: bool = True) -> LanguageModel:
    """Return the model of a folder, with weights as stored.

    Args:
        num_labels: for a classifier whose label layer is in the folder; without it the model has
            its output layer over the vocabulary.
        head: whether the output layer is read; without it the model cannot answer yet.
    """
    model = build_model(read_config(folder))
    model.source = str(folder)
    if num_labels is not None:
        model.use_label_head(num_labels)
    read_weights(model, folder, head)
    return model


def save_model(
    model: LanguageModel,
    folder: Path,
    end_of_text: int,
    labels: Sequence[str] = (),
    token_ids: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json and model.safetensors, for transformers and for `load_model`.

    Args:
        end_of_text: id of the token that ends a text.
        labels: names of a classifier's labels, in the order of its output layer.
        token_ids: fields with the ids of special tokens, where they are others than `end_of_text`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = model.config.to_hugging_face()
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    values |= dict.fromkeys(names, end_of_text) | dict(token_ids or {})
    values["architectures"] = [model.language_architecture]
    if model.num_labels is not None:
        values |= {
            "architectures": [model.label_architecture],
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": "single_label_classification",
        }
    elif not model.head_is_tied:
        values["tie_word_embeddings"] = False
    # transformers reads every tensor in this precision, so it is the highest of them.
    stored = {p.dtype for p in model.parameters() if p.is_floating_point()}
    dtype = torch.float32 if torch.float32 in stored else stored.pop()
    # The second is the name that older programs read.
    values["dtype"] = values["torch_dtype"] = str(dtype).removeprefix("torch.")
    write_weights(model, folder / WEIGHTS)
    (folder / "config.json").write_text(to_json(values, indent=2) + "\n", "utf-8")
