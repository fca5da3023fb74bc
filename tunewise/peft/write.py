"""Writing of adapters in PEFT's format, for `peft.PeftModel.from_pretrained`.

A method returns its `PeftAdapter`, made by one of the functions here from its trained tensors and
our names of the layers; `write_adapter` writes it to a folder.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mode
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tunewise.errors import ConfigError
from tunewise.json_text import to_json
from tunewise.models import LanguageModel
from tunewise.models.weights import LABEL_HEAD
from tunewise.peft.joint import LowRankUpdate, join_updates
from tunewise.peft.names import (
    ADAPTER_CONFIG_FILE,
    IA3_SCALE,
    LAYERS_NAME_PREFIX,
    LORA_A,
    LORA_B,
    MAGNITUDE,
    PROMPT,
    VIRTUAL_TOKENS_NAME_PREFIX,
    WEIGHTS_FILE,
    layer_in_block,
    layers_of_transformers,
    weights_are_transposed,
)


@dataclass(frozen=True)
class PeftAdapter:
    """The trained tensors of a method in PEFT's format, without the label layer."""

    fields: Mapping[str, Any]
    """The fields of adapter_config.json that belong to the method."""
    tensors: Mapping[str, Tensor]
    """The tensors by their whole names."""
    name_prefix: str
    """The name prefix of the label layer."""
    written: Collection[str]
    """Our names of the modules whose own parameters are in the tensors."""


def write_adapter(
    adapter: PeftAdapter, model: LanguageModel, base_model: str, folder: Path
) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    Args:
        model: the model that was trained, whose label layer is written too.
        base_model: the name by which transformers loads the base model.

    Raises:
        ConfigError: if a trained weight is not in the adapter.
    """
    written = {*adapter.written, *([] if model.num_labels is None else ["head"])}
    for name, _ in model.trainable():
        if name.rpartition(".")[0] not in written:
            raise ConfigError(f"--format peft: {name!r} was trained, and an adapter cannot hold it")
    fields = {
        "task_type": "CAUSAL_LM" if model.num_labels is None else "SEQ_CLS",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        **adapter.fields,
    }
    tensors = dict(adapter.tensors)
    if model.num_labels is not None:
        fields["modules_to_save"] = ["score"]
        label_layer = model.dense("head.weight").detach()
        tensors[adapter.name_prefix + LABEL_HEAD] = label_layer
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    text = to_json(dict(sorted(fields.items())), indent=2) + "\n"
    (folder / ADAPTER_CONFIG_FILE).write_text(text, "utf-8")


def lora_adapter(
    model: LanguageModel,
    updates: Mapping[str, LowRankUpdate],
    scaled_by_root: bool,
    dropout: float,
) -> PeftAdapter:
    """Return a LORA adapter of low-rank updates.

    Args:
        updates: the updates by our names of the layers.
        scaled_by_root: whether PEFT is to compute a scale as alpha / sqrt(R), and not alpha / R.
    """
    joint: dict[str, LowRankUpdate] = {}
    for theirs, ours in layers_of_transformers(model).items():
        if any(name in updates for name in ours):
            weights = [model.dense(f"{name}.weight") for name in ours]
            joint[theirs] = join_updates([updates.get(name) for name in ours], weights)
    tensors = {}
    for theirs, update in joint.items():
        tensors[f"{LAYERS_NAME_PREFIX}{theirs}.{LORA_A}"] = update.a
        tensors[f"{LAYERS_NAME_PREFIX}{theirs}.{LORA_B}"] = update.b
        if update.magnitude is not None:
            tensors[f"{LAYERS_NAME_PREFIX}{theirs}.{MAGNITUDE}"] = update.magnitude
    root = sqrt if scaled_by_root else float
    alphas = {theirs: _as_int(u.scale * root(len(u.a))) for theirs, u in joint.items()}
    rank, rank_pattern = _pattern({t: len(u.a) for t, u in joint.items()}, model)
    alpha, alpha_pattern = _pattern(alphas, model)
    fields = {
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": rank_pattern,
        "lora_alpha": alpha,
        "alpha_pattern": alpha_pattern,
        "use_rslora": scaled_by_root,
        "use_dora": any(update.magnitude is not None for update in joint.values()),
        "lora_dropout": dropout,
        "bias": "none",
        "fan_in_fan_out": weights_are_transposed(model),
        **_targets(list(joint), model),
    }
    return PeftAdapter(fields, tensors, LAYERS_NAME_PREFIX, updates.keys())


def ia3_adapter(model: LanguageModel, scales: Mapping[str, Tensor]) -> PeftAdapter:
    """Return an IA3 adapter of vectors; our layers without one get a vector of ones.

    Args:
        scales: the vectors by our names of the layers, (out, 1) if outputs are scaled and (1, in)
            if inputs.
    """
    joint: dict[str, Tensor] = {}
    for theirs, ours in layers_of_transformers(model).items():
        if any(name in scales for name in ours):
            parts = [
                scales[name]
                if name in scales
                else torch.ones(len(model.dense(f"{name}.weight")), 1)
                for name in ours
            ]
            joint[theirs] = torch.cat(parts)
    places = {theirs: layer_in_block(theirs, model) for theirs in joint}
    names = {theirs: place.name for theirs, place in places.items() if place is not None}
    fields = {
        "peft_type": "IA3",
        "target_modules": sorted(set(names.values())),
        "feedforward_modules": sorted({names[t] for t in names if len(joint[t]) == 1}),
        "fan_in_fan_out": weights_are_transposed(model),
    }
    tensors = {f"{LAYERS_NAME_PREFIX}{t}.{IA3_SCALE}": scale for t, scale in joint.items()}
    return PeftAdapter(fields, tensors, LAYERS_NAME_PREFIX, scales.keys())


def virtual_tokens_adapter(
    model: LanguageModel, peft_type: str, values: Tensor, written: Collection[str], **fields: Any
) -> PeftAdapter:
    """Return a PROMPT_TUNING or PREFIX_TUNING adapter of virtual tokens.

    Args:
        values: (P, ...), the numbers of each virtual token.
        written: our names of the modules that hold them.
        fields: further fields of adapter_config.json.
    """
    shape = {
        "peft_type": peft_type,
        "num_virtual_tokens": len(values),
        "token_dim": model.config.model_dim,
        "num_layers": model.config.num_layers,
        "num_attention_heads": model.config.num_heads,
        "num_transformer_submodules": 1,
    }
    tensors = {PROMPT: values.detach()}
    return PeftAdapter(shape | fields, tensors, VIRTUAL_TOKENS_NAME_PREFIX, written)


def _targets(layers: list[str], model: LanguageModel) -> dict[str, Any]:
    """Return the fields of a LoraConfig that say which layers have an update."""
    places = [place for layer in layers if (place := layer_in_block(layer, model)) is not None]
    blocks = sorted({place.block for place in places})
    names = sorted({place.name for place in places})
    is_grid = len(layers) == len(blocks) * len(names)  # the same layers in every chosen block
    if not is_grid:
        return {"target_modules": sorted(layers)}
    if len(blocks) == model.config.num_layers:
        return {"target_modules": names}
    return {"target_modules": names, "layers_to_transform": blocks}


def _pattern(values: Mapping[str, float], model: LanguageModel) -> tuple[float, dict[str, float]]:
    """Return the most common value of all layers, and the others by the ends of their names."""
    common = mode(values.values())
    by_name: dict[str, dict[str, float]] = {}
    for layer, value in values.items():
        place = layer_in_block(layer, model)
        by_name.setdefault(place.name if place else layer, {})[layer] = value
    pattern: dict[str, float] = {}
    for name, of_layers in by_name.items():
        is_same = len(set(of_layers.values())) == 1
        pattern |= {name: mode(of_layers.values())} if is_same else of_layers
    return common, {name: value for name, value in pattern.items() if value != common}


def _as_int(number: float) -> float:
    """Return a whole number as an int, so that JSON has no point in it."""
    return int(number) if number.is_integer() else number
