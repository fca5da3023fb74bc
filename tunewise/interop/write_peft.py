"""Trained methods as PEFT keeps them, for `peft.PeftModel.from_pretrained`."""

import json
import re
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from statistics import mode
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tunewise.config import RunConfig
from tunewise.methods.ia3 import IA3, ScaledLinear
from tunewise.methods.lora import LoRA
from tunewise.methods.lora_layers import DoRALinear, LoRALinear
from tunewise.methods.method import Method
from tunewise.methods.soft_prompt import SoftPrompt
from tunewise.models import LanguageModel
from tunewise.models.catalog import KNOWN_MODELS, POCKET
from tunewise.models.folder import find_folder
from tunewise.models.layers import row_lengths
from tunewise.models.weights import LABEL_HEAD
from tunewise.peft import read as peft_folder
from tunewise.peft.read import (
    LAYER_PREFIX,
    MAGNITUDE,
    PROMPT,
    PROMPT_PREFIX,
    Update,
    their_layers,
)

ADAPTERS = ("lora", "soft_prompt", "prefix", "ia3")
"""The methods that PEFT has too."""
Adapter = tuple[dict[str, Any], dict[str, Tensor]]
"""The fields of a configuration, and tensors, that belong to a method."""


def write_adapter(model: LanguageModel, config: RunConfig, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    Args:
        model: adapted by one of `ADAPTERS`, in fp32.
    """
    method = config.method
    fields: dict[str, Any] = {
        "task_type": "CAUSAL_LM" if model.num_labels is None else "SEQ_CLS",
        "base_model_name_or_path": base_model(config.model),
        "inference_mode": True,
    }
    prefix = LAYER_PREFIX
    if isinstance(method, LoRA):
        own, tensors = _lora(model, method)
    elif isinstance(method, IA3):
        own, tensors = _ia3(model)
    else:
        own, tensors = _virtual_tokens(model, method)
        prefix = PROMPT_PREFIX
    fields |= own
    if model.num_labels is not None:
        fields["modules_to_save"] = ["score"]
        tensors[prefix + LABEL_HEAD] = model.get_parameter("head.weight").detach()
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / peft_folder.WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(dict(sorted(fields.items())), indent=2) + "\n"
    (folder / peft_folder.CONFIG).write_text(text, "utf-8")


def base_model(name: str) -> str:
    """Return what transformers loads a model by: its hub id, or its folder's whole path."""
    if name in KNOWN_MODELS and name != POCKET:
        return KNOWN_MODELS[name].home
    return str(find_folder(name).absolute()) if name == POCKET or Path(name).is_dir() else name


def _lora(model: LanguageModel, method: LoRA) -> Adapter:
    updates = lora_updates(model)
    rooted = method.scaling == "alpha/sqrt(r)"
    fields = {"peft_type": "LORA", **_lora_fields(updates, model, rooted)}
    fields["lora_dropout"] = method.dropout
    tensors = {}
    for name, update in updates.items():
        tensors[f"{LAYER_PREFIX}{name}.lora_A.weight"] = update.a
        tensors[f"{LAYER_PREFIX}{name}.lora_B.weight"] = update.b
        if update.magnitude is not None:
            tensors[f"{LAYER_PREFIX}{name}.{MAGNITUDE}"] = update.magnitude
    return fields, tensors


def _ia3(model: LanguageModel) -> Adapter:
    scales = ia3_scales(model)
    kinds = {match[2]: scale for name, scale in scales.items() if (match := BLOCK.fullmatch(name))}
    fields = {
        "peft_type": "IA3",
        "target_modules": sorted(kinds),
        "feedforward_modules": sorted(kind for kind in kinds if len(kinds[kind]) == 1),
        "fan_in_fan_out": model.config.family == "gpt2",
    }
    return fields, {f"{LAYER_PREFIX}{name}.ia3_l": scale for name, scale in scales.items()}


def _virtual_tokens(model: LanguageModel, method: Method) -> Adapter:
    if isinstance(method, SoftPrompt):
        prompt: Tensor = model.get_parameter("token_embedding.prompt")  # (P, D)
        # How it started is of no matter to what it is now.
        fields = {"peft_type": "PROMPT_TUNING", "prompt_tuning_init": "RANDOM"}
    else:
        prompt, fields = _prefixes(model), {"peft_type": "PREFIX_TUNING"}
    shape = {
        "num_virtual_tokens": len(prompt),
        "token_dim": model.config.model_dim,
        "num_layers": model.config.num_layers,
        "num_attention_heads": model.config.num_heads,
        "num_transformer_submodules": 1,
    }
    return fields | shape, {PROMPT: prompt.detach()}


def lora_updates(model: LanguageModel) -> dict[str, Update]:
    """Return the update of each layer of transformers that has one, by its name there.

    Where it holds several of ours, of ranks R1, R2, ..., the joint update is exact, of rank ΣR: the
    A stand above each other, B is block-diagonal, and magnitudes, being of rows, are joined.
    """
    updates = {}
    for theirs, ours in their_layers(model).items():
        layers = [model.get_submodule(name) for name in ours]
        adapted = [layer for layer in layers if isinstance(layer, LoRALinear)]
        if adapted:
            parts = [_factors(layer) for layer in layers]
            a = torch.cat([a for a, _ in parts])  # (ΣR, in)
            b: Tensor = torch.block_diag(*(b for _, b in parts))  # type: ignore[no-untyped-call]  # (out, ΣR)
            is_dora = isinstance(adapted[0], DoRALinear)
            magnitude = torch.cat([_magnitude(layer) for layer in layers]) if is_dora else None
            updates[theirs] = Update(a, b, adapted[0].scale, magnitude)
    return updates


def ia3_scales(model: LanguageModel) -> dict[str, Tensor]:
    """Return the scale of each layer of transformers that has one, by its name there.

    It is (out, 1) where outputs are scaled, and (1, in) where inputs are. Where a layer holds
    several of ours, those that are not scaled get ones.
    """
    scales = {}
    for theirs, ours in their_layers(model).items():
        layers = [model.get_submodule(name) for name in ours]
        scaled = [layer for layer in layers if isinstance(layer, ScaledLinear)]
        if scaled:
            parts: list[Tensor] = [
                layer.scale.detach()
                if isinstance(layer, ScaledLinear)
                else torch.ones(len(layer.get_parameter("weight")))
                for layer in layers
            ]
            scales[theirs] = torch.cat(parts).unsqueeze(0 if scaled[0].side == "input" else 1)
    return scales


def _prefixes(model: LanguageModel) -> Tensor:
    """Return the prefix (P, 2 · layers · D): each layer's keys, then its values."""
    parts: list[Tensor] = [
        block.get_parameter(f"attention.prefix.{part}")
        for block in model.blocks
        for part in ("keys", "values")
    ]
    return torch.cat(parts, dim=1)


def _factors(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a layer's A (R, in) and B (out, R); of rank 0 if it has no update."""
    if isinstance(layer, LoRALinear):
        return layer.factors()
    out_dim, in_dim = layer.get_parameter("weight").shape
    return torch.empty(0, in_dim), torch.empty(out_dim, 0)


def _magnitude(layer: nn.Module) -> Tensor:
    """Return the lengths of a layer's rows, (out,): as trained, or those of a frozen weight."""
    if isinstance(layer, DoRALinear):
        return layer.magnitude.detach()
    return row_lengths(layer.get_parameter("weight").detach())


def _lora_fields(
    updates: Mapping[str, Update], model: LanguageModel, rooted: bool
) -> dict[str, Any]:
    """Return the fields of a LoraConfig that say where updates are, and their ranks and alphas.

    Args:
        rooted: whether a scale is alpha / sqrt(rank), and not alpha / rank.
    """
    ranks = {name: len(update.a) for name, update in updates.items()}
    alphas = {
        name: _whole(update.scale * (sqrt(ranks[name]) if rooted else ranks[name]))
        for name, update in updates.items()
    }
    rank, rank_pattern = _pattern(ranks)
    alpha, alpha_pattern = _pattern(alphas)
    fields: dict[str, Any] = {
        "r": rank,
        "rank_pattern": rank_pattern,
        "lora_alpha": alpha,
        "alpha_pattern": alpha_pattern,
        "use_rslora": rooted,
        "use_dora": any(update.magnitude is not None for update in updates.values()),
        "bias": "none",
        "fan_in_fan_out": model.config.family == "gpt2",
        "target_modules": sorted(updates),
    }
    places = [match.groups() for name in updates if (match := BLOCK.fullmatch(name))]
    blocks = sorted({int(index) for index, _ in places})
    kinds = sorted({kind for _, kind in places})
    if len(updates) == len(blocks) * len(kinds):  # the same layers in every chosen block
        fields["target_modules"] = kinds
        if len(blocks) < model.config.num_layers:
            fields["layers_to_transform"] = blocks
    return fields


BLOCK = re.compile(r".*\.h\.(\d+)\.(.+)")
"""The number of a block and what a layer is called within it."""


def _pattern(values: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """Return the commonest value of all layers, and the others by the ends of their names."""
    common = mode(values.values())
    groups: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        match = BLOCK.fullmatch(name)
        groups.setdefault(match[2] if match else name, {})[name] = value
    pattern: dict[str, float] = {}
    for kind, group in groups.items():
        pattern |= {kind: mode(group.values())} if len(set(group.values())) == 1 else group
    return common, {name: value for name, value in pattern.items() if value != common}


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number
