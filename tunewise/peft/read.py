"""Adapters as PEFT writes them: adapter_config.json and adapter_model.safetensors, read here.

Foreign conventions end here: a layer that holds several of ours, as GPT-2's `c_attn` does query,
key and value, is parted into an update for each.
"""

import re
from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import AfterValidator
from torch import Tensor

from tunewise.errors import ModelError
from tunewise.models import LanguageModel
from tunewise.models.layers import row_lengths
from tunewise.models.weights import LABEL_HEAD, read_json, read_tensors
from tunewise.settings import Settings

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
LAYER_PREFIX = "base_model.model."
"""What stands before a tensor's name in transformers, in an adapter of layers."""
PROMPT_PREFIX = "base_model."
"""The same, in an adapter of virtual tokens with a label layer."""
PROMPT = "prompt_embeddings"
MAGNITUDE = "lora_magnitude_vector"
"""The lengths of a layer's rows, in an adapter of DoRA."""
HEAD_COPY = "lm_head.base_layer.weight"
"""The output layer itself, which PEFT saves beside an update of it."""

Folder = Annotated[Path, AfterValidator(lambda path: Path(expanduser(path)).absolute())]

UNDERSTOOD = {
    "LORA": {
        *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *(
            "use_dora",
            "fan_in_fan_out",
            "lora_dropout",
            "eva_config",
            "qalora_group_size",
            "megatron_core",
        ),
    },
    "PROMPT_TUNING": {
        *("num_virtual_tokens", "token_dim", "num_layers", "num_attention_heads"),
        *("prompt_tuning_init", "prompt_tuning_init_text", "modules_to_save"),
        *("tokenizer_name_or_path", "tokenizer_kwargs"),
    },
}
"""Fields that are read, that the tensors tell too, or that only matter to training in PEFT."""
COMMON = {
    *("peft_type", "task_type", "peft_version", "auto_mapping", "inference_mode"),
    *("base_model_name_or_path", "revision"),
}
ONLY: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    # The other ways to start LoRA change the model that it is added to.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "num_transformer_submodules": (None, 1),
}
"""Fields that can have only these values here. Any other field must be off."""


class Update(NamedTuple):
    """The update of one layer: scale · B A, or DoRA's."""

    a: Tensor
    """(R, in), in fp32."""
    b: Tensor
    """(out, R), in fp32."""
    scale: float
    magnitude: Tensor | None = None
    """(out,), in fp32; None if it is not DoRA's."""


def refuse_fields(method: Settings, folder: Path | None, but: Sequence[str]) -> None:
    """Return if a method that reads a folder asks for nothing that the adapter there decides.

    Raises:
        ValueError: if it does.
    """
    for name, field in type(method).model_fields.items():
        is_set = getattr(method, name) != field.default
        if folder is not None and is_set and name not in ("kind", "from_", *but):
            raise ValueError(f"{name}: the adapter in `from` decides it; leave it out")


def read_lora(folder: Path, model: LanguageModel) -> dict[str, Update]:
    """Return the updates in a folder by our name of each layer; put its label layer in the model.

    A PEFT update of a layer that holds several of ours gives each its rows of B and its own copy of
    A. Components that are zero in one of them and not in another are left out there, so that what
    was joined when it was written is parted again.

    Raises:
        ModelError: if the folder is not a LoRA that can be had here, or not one of this model.
    """
    config, tensors = _read(folder, "LORA", LAYER_PREFIX)
    _take_label_layer(folder, tensors, model)
    copy = tensors.pop(HEAD_COPY, None)
    head = model.get_parameter("head.weight")
    if copy is not None and not head.is_meta and not _alike(copy, head.float()):
        raise ModelError(f"{folder}: {HEAD_COPY!r} is not the output layer of this model")
    root = sqrt if config.get("use_rslora") else float
    updates: dict[str, Update] = {}
    for theirs, ours in their_layers(model).items():
        names = f"{theirs}.lora_A.weight", f"{theirs}.lora_B.weight"
        if not tensors.keys() >= set(names):
            continue
        a, b = (tensors.pop(name) for name in names)  # (r, in), (out, r)
        shapes = [model.get_parameter(f"{name}.weight").shape for name in ours]
        sizes = [shape[0] for shape in shapes]
        if (a.shape[1], *b.shape) != (shapes[0][1], sum(sizes), len(a)):
            raise ModelError(
                f"{folder}: the update of {theirs!r} has shapes {list(a.shape)} and "
                f"{list(b.shape)}; the model's layer is {sum(sizes)} by {shapes[0][1]}"
            )
        scale = _alpha(folder, config, theirs) / root(len(a))
        magnitude = tensors.pop(f"{theirs}.{MAGNITUDE}", None)  # (out,)
        if magnitude is not None and magnitude.shape != (sum(sizes),):
            found = list(magnitude.shape)
            raise ModelError(f"{folder}: {MAGNITUDE!r} of {theirs!r} has shape {found}")
        parts = torch.split(b, sizes)
        magnitudes = (None,) * len(ours) if magnitude is None else torch.split(magnitude, sizes)
        used = torch.stack([part.any(dim=0) for part in parts])  # (layers, r)
        kept = used | ~used.any(dim=0)
        for name, part, components, own in zip(ours, parts, kept, magnitudes, strict=True):
            if components.any():
                rows = part[:, components].contiguous()
                updates[name] = Update(a[components], rows, scale, own)
            elif own is not None and not _is_magnitude(own, model.get_parameter(f"{name}.weight")):
                raise ModelError(
                    f"{folder}: {MAGNITUDE!r} of {theirs!r} is trained where B is zero, which "
                    "is not supported"
                )
    _refuse_what_is_left(folder, tensors)
    return updates


def read_prompt(folder: Path, model: LanguageModel) -> Tensor:
    """Return the soft prompt in a folder, (P, D) in fp32; put its label layer in the model.

    Raises:
        ModelError: if the folder is not a soft prompt, or not one of this model.
    """
    _, tensors = _read(folder, "PROMPT_TUNING", PROMPT_PREFIX)
    _take_label_layer(folder, tensors, model)
    prompt = tensors.pop(PROMPT, torch.empty(0))
    _refuse_what_is_left(folder, tensors)
    shape, width = [num_virtual_tokens(folder), model.config.model_dim], list(prompt.shape)
    if width != shape:
        raise ModelError(f"{folder}: {PROMPT!r} has shape {width}; {shape} is needed")
    return prompt


def num_virtual_tokens(folder: Path) -> int:
    """Return the length of the soft prompt in a folder."""
    found = _read_config(folder, "PROMPT_TUNING").get("num_virtual_tokens")
    if not isinstance(found, int) or found < 1:
        raise ModelError(f"{folder / CONFIG}: num_virtual_tokens is {found!r}")
    return found


def their_layers(model: LanguageModel) -> dict[str, tuple[str, ...]]:
    """Return our names of what each layer in transformers holds, by its name there."""
    layers = {
        model.name_prefix + stored.theirs.removesuffix(".weight"): tuple(
            name.removesuffix(".weight") for name in stored.ours
        )
        for stored in model.stored_tensors()
        if stored.theirs.endswith(".weight")
    }
    return layers if model.num_labels is not None else layers | {"lm_head": ("head",)}


def _read(
    folder: Path, kind: Literal["LORA", "PROMPT_TUNING"], prefix: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration in a folder, and its tensors in fp32, by name without prefix."""
    config = _read_config(folder, kind)
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {WEIGHTS}; a pickle (.bin) can run any code when it is opened: "
            "write the adapter again with a PEFT that saves safetensors"
        )
    tensors = read_tensors(path)
    return config, {name.removeprefix(prefix): t.float() for name, t in tensors.items()}


def _read_config(folder: Path, kind: Literal["LORA", "PROMPT_TUNING"]) -> dict[str, Any]:
    """Return the fields of adapter_config.json, once it is sure that all of them are understood."""
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {CONFIG}; `from` is a folder that PEFT's save_pretrained wrote"
        )
    config = read_json(path)
    if (found := config.get("peft_type")) != kind:
        raise ModelError(f"{path}: peft_type is {found!r}; this method reads {kind!r}")
    for field, value in config.items():
        allowed = ONLY.get(field)
        if value not in allowed if allowed else value and field not in UNDERSTOOD[kind] | COMMON:
            raise ModelError(f"{path}: {field} is {value!r}, which is not supported")
    return config


def _alpha(folder: Path, config: Mapping[str, Any], layer: str) -> float:
    """Return a layer's alpha: of the first pattern that its name ends in, as PEFT looks it up."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping):
        raise ModelError(f"{folder / CONFIG}: alpha_pattern is {patterns!r}; an object is needed")
    try:
        # Of the regular expressions that PEFT takes, those that cannot take for ever.
        if wrong := [pattern for pattern in patterns if re.search(r"[*+?{]", pattern)]:
            raise ModelError(f"{folder / CONFIG}: alpha_pattern: {wrong[0]!r} repeats something")
        matching = (a for name, a in patterns.items() if re.match(rf"(.*\.)?({name})$", layer))
        alpha = next(matching, config.get("lora_alpha", 8))
    except re.error as error:
        raise ModelError(f"{folder / CONFIG}: alpha_pattern: {error}") from error
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not isfinite(alpha):
        raise ModelError(f"{folder / CONFIG}: alpha is {alpha!r}; a number is needed")
    return float(alpha)


def _alike(copy: Tensor, weight: Tensor) -> bool:
    """Return whether a tensor is a copy of a weight, which may be in half precision."""
    return copy.shape == weight.shape and torch.allclose(copy, weight, rtol=1e-2, atol=1e-6)


def _is_magnitude(magnitude: Tensor, weight: Tensor) -> bool:
    """Return whether a magnitude is that of a frozen weight as it is; True without weights."""
    return weight.is_meta or torch.allclose(magnitude, row_lengths(weight), rtol=1e-5)


def _take_label_layer(folder: Path, tensors: dict[str, Tensor], model: LanguageModel) -> None:
    weight = tensors.pop(LABEL_HEAD, None)
    if weight is None:
        return
    if model.num_labels is None:
        raise ModelError(f"{folder}: has a layer over {len(weight)} labels; the task has none")
    head = model.get_parameter("head.weight")
    if weight.shape != head.shape:
        raise ModelError(
            f"{folder}: the label layer has shape {list(weight.shape)}; "
            f"the task and the model ask for {list(head.shape)}"
        )
    if not head.is_meta:
        head.data = weight


def _refuse_what_is_left(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    if tensors:
        more = f" ({len(tensors)} in all)" if len(tensors) > 1 else ""
        raise ModelError(f"{folder}: tensor {min(tensors)!r} cannot be used{more}")
