"""PEFT's adapter_config.json: it is read, and refused if a field is not understood."""

import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from tunewise.errors import ModelError
from tunewise.models.weights import read_json
from tunewise.peft.names import ADAPTER_CONFIG_FILE

PeftType = Literal["LORA", "PROMPT_TUNING"]

# ruff would put each field on a line of its own.
# fmt: off
UNDERSTOOD: Mapping[PeftType, frozenset[str]] = {
    "LORA": frozenset({
        "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save",
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
        "use_dora", "fan_in_fan_out", "lora_dropout", "eva_config", "qalora_group_size",
        "megatron_core",
    }),
    "PROMPT_TUNING": frozenset({
        "num_virtual_tokens", "token_dim", "num_layers", "num_attention_heads",
        "prompt_tuning_init", "prompt_tuning_init_text", "modules_to_save",
        "tokenizer_name_or_path", "tokenizer_kwargs",
    }),
}
"""Fields that are read, that the tensors show too, or that only affect training in PEFT."""
UNDERSTOOD_IN_ALL = frozenset({
    "peft_type", "task_type", "peft_version", "auto_mapping", "inference_mode",
    "base_model_name_or_path", "revision",
})
# fmt: on
ALLOWED_VALUES: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    # The other ways to start LoRA change the model that it is added to.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "num_transformer_submodules": (None, 1),
}
"""Fields that can have only these values here. Any field that is not understood must be off."""


def read_adapter_config(folder: Path, peft_type: PeftType) -> dict[str, Any]:
    """Return the fields of a folder's adapter_config.json.

    Raises:
        ModelError: if there is none, or it has a field that is not understood here.
    """
    path = folder / ADAPTER_CONFIG_FILE
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {ADAPTER_CONFIG_FILE}; "
            "`from` is a folder that PEFT's save_pretrained wrote"
        )
    config = read_json(path)
    if (written := config.get("peft_type")) != peft_type:
        raise ModelError(f"{path}: peft_type is {written!r}; this method reads {peft_type!r}")
    for field, value in config.items():
        if not _is_supported(field, value, peft_type):
            raise ModelError(f"{path}: {field} is {value!r}, which is not supported")
    return config


def count_virtual_tokens(folder: Path) -> int:
    """Return the length of the soft prompt in a folder."""
    number = read_adapter_config(folder, "PROMPT_TUNING").get("num_virtual_tokens")
    if not isinstance(number, int) or number < 1:
        raise ModelError(f"{folder / ADAPTER_CONFIG_FILE}: num_virtual_tokens is {number!r}")
    return number


def alpha_of(theirs: str, config: Mapping[str, Any], folder: Path) -> float:
    """Return the alpha of a layer of transformers, by the first pattern that its name ends in."""
    where = folder / ADAPTER_CONFIG_FILE
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping):
        raise ModelError(f"{where}: alpha_pattern is {patterns!r}; an object is needed")
    # PEFT takes any regular expression; those with repetitions could take forever to match.
    if wrong := [pattern for pattern in patterns if re.search(r"[*+?{]", pattern)]:
        raise ModelError(f"{where}: alpha_pattern: {wrong[0]!r} repeats something")
    try:
        matching = (a for name, a in patterns.items() if re.match(rf"(.*\.)?({name})$", theirs))
        alpha = next(matching, config.get("lora_alpha", 8))
    except re.error as error:
        raise ModelError(f"{where}: alpha_pattern: {error}") from error
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not isfinite(alpha):
        raise ModelError(f"{where}: alpha is {alpha!r}; a number is needed")
    return float(alpha)


def _is_supported(field: str, value: Any, peft_type: PeftType) -> bool:
    if field in ALLOWED_VALUES:
        return value in ALLOWED_VALUES[field]
    is_off = not value
    return is_off or field in UNDERSTOOD[peft_type] or field in UNDERSTOOD_IN_ALL
