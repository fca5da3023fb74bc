"""PEFT's adapter_config.json: it is read, and refused if a field is not understood."""

import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from tunewise.errors import ModelError
from tunewise.models.weights import read_json
from tunewise.peft.folder import require_adapter
from tunewise.peft.names import ADAPTER_CONFIG_FILE

PeftType = Literal["LORA", "PROMPT_TUNING"]
KINDS: Mapping[str, str] = {"LORA": "lora", "PROMPT_TUNING": "soft_prompt"}
"""The kind of method that reads an adapter, by its peft_type."""

# ruff would put each field on a line of its own.
# fmt: off
UNDERSTOOD: Mapping[PeftType, frozenset[str]] = {
    "LORA": frozenset({
        "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save",
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
        "use_dora", "fan_in_fan_out", "lora_dropout", "eva_config", "qalora_group_size",
        "megatron_core", "ensure_weight_tying",
    }),
    "PROMPT_TUNING": frozenset({
        "num_virtual_tokens", "token_dim", "num_layers", "num_attention_heads",
        "prompt_tuning_init", "prompt_tuning_init_text", "modules_to_save",
        "tokenizer_name_or_path", "tokenizer_kwargs",
    }),
}
"""Fields that are read, that the tensors show too, or that only affect training in PEFT."""
UNDERSTOOD_IN_ALL = frozenset({
    "peft_type", "peft_version", "auto_mapping", "inference_mode", "base_model_name_or_path",
    "revision",
})
# fmt: on
ALLOWED_VALUES: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    # The other ways to start LoRA change the model that it is added to.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal", "mica"),
    "num_transformer_submodules": (None, 1),
    "task_type": (None, "CAUSAL_LM", "SEQ_CLS"),
}
"""Fields that can have only these values here. Any field that is not understood must be off."""

MERGE = (
    "PEFT makes a whole model of it (merge_and_unload, then save_pretrained), which can be the "
    "run's `model`"
)
"""What to do with a LoRA that cannot be read."""
MAX_EFFORT = 10**7
"""Most ways in which a pattern may be tried on one name."""


def read_adapter_config(folder: Path, peft_type: PeftType) -> dict[str, Any]:
    """Return the fields of a folder's adapter_config.json.

    Raises:
        ModelError: if there is none, or it has a field that is not understood here.
    """
    path = require_adapter(folder)
    config = read_json(path)
    if (written := config.get("peft_type")) != peft_type:
        raise ModelError(
            f"{path}: peft_type is {written!r}; this method reads {peft_type!r}; "
            f"{_other_way(written)}"
        )
    for field, value in config.items():
        if not _is_supported(field, value, peft_type):
            advice = f"; {MERGE}" if peft_type == "LORA" else ""
            raise ModelError(f"{path}: {field} is {value!r}, which is not supported{advice}")
    return config


def count_virtual_tokens(folder: Path) -> int:
    """Return the length of the soft prompt in a folder."""
    number = read_adapter_config(folder, "PROMPT_TUNING").get("num_virtual_tokens")
    if type(number) is not int or number < 1:
        raise ModelError(f"{folder / ADAPTER_CONFIG_FILE}: num_virtual_tokens is {number!r}")
    return number


def value_of(theirs: str, config: Mapping[str, Any], field: str, where: Path) -> float:
    """Return the `r` or `lora_alpha` of a layer of transformers.

    It is that of the first pattern that the layer's name ends in, else that of all layers.

    Args:
        where: the configuration's file, for the error.
    """
    pattern_field = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}[field]
    patterns = config.get(pattern_field) or {}
    if not isinstance(patterns, Mapping):
        raise ModelError(f"{where}: {pattern_field} is {patterns!r}; an object is needed")
    of_layer = (
        value
        for pattern, value in patterns.items()
        if matches(rf"(?:.*\.)?(?:{pattern})", theirs, f"{where}: {pattern_field}")
    )
    value = next(of_layer, config.get(field, 8))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or abs(value) > 2**53 or not isfinite(value):
        raise ModelError(f"{where}: {field} of {theirs!r} is {value!r}; a number is needed")
    return float(value)


def names_in(config: Mapping[str, Any], field: str, where: Path) -> list[str]:
    """Return the names in a field, of which one alone may stand there without a list."""
    names = pattern_or_names(config, field, where)
    return [names] if isinstance(names, str) else names


def pattern_or_names(config: Mapping[str, Any], field: str, where: Path) -> str | list[str]:
    """Return the names in a field, or the pattern of names that is there instead.

    Args:
        where: the configuration's file, for the error.
    """
    names = config.get(field) or []
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list and not isinstance(names, str):
        raise ModelError(f"{where}: {field} is {names!r}; a list of names is needed")
    return names


def made_for(config: Mapping[str, Any]) -> str:
    """Return the end of a message about an adapter that does not fit: its own model."""
    base = config.get("base_model_name_or_path")
    return f"; the adapter was made for {base!r}" if base else ""


def matches(pattern: str, name: str, where: str) -> bool:
    """Return whether a whole name matches a regular expression of a file.

    Raises:
        ModelError: if it is none, or one that could take forever to match.
    """
    repeats, options = len(re.findall(r"[*+{]", pattern)), len(re.findall(r"(?<!\()\?", pattern))
    alternatives = (1 + pattern.count("|")) ** pattern.count("(")
    effort = alternatives * len(name) ** repeats * 2**options
    if re.search(r"\)[*+{]", pattern) or effort > MAX_EFFORT:
        raise ModelError(
            f"{where}: the pattern {pattern!r} could take forever to match; list names instead"
        )
    try:
        return re.fullmatch(pattern, name) is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise ModelError(f"{where}: {pattern!r} is no pattern: {error}") from error


def _is_supported(field: str, value: Any, peft_type: PeftType) -> bool:
    if field in ALLOWED_VALUES:
        return value in ALLOWED_VALUES[field]
    is_off = not value
    return is_off or field in UNDERSTOOD[peft_type] or field in UNDERSTOOD_IN_ALL


def _other_way(written: Any) -> str:
    """Return what to do with an adapter of another type."""
    if isinstance(written, str) and written in KINDS:
        return f"write kind: {KINDS[written]}"
    return f"{' and '.join(KINDS)} can be read; of most others {MERGE}"
