"""An adapter of PEFT that does not fit its configuration or the model is refused, or warned of."""

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError
from tunewise.peft.config import ALLOWED_VALUES, UNDERSTOOD, UNDERSTOOD_IN_ALL, PeftType
from tunewise.runs.model import load_trained

from .in_peft import TASK, Fields, Tensors, Trained, as_it_is, read

# PEFT asks transformers by a name that transformers is about to retire.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
]

FIRST = "base_model.model.transformer.h.0."
LABELS = {"kind": "classification", "labels": dict(zip("abc", "abc", strict=True))}


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda old: {name: tensor for name, tensor in old.items() if part not in name}


def renamed(part: str, by: str) -> Callable[[Tensors], Tensors]:
    return lambda old: {name.replace(part, by): tensor for name, tensor in old.items()}


def with_more(**shapes: tuple[int, ...]) -> Callable[[Tensors], Tensors]:
    more = {FIRST + name.replace("__", "."): torch.ones(shape) for name, shape in shapes.items()}
    return lambda old: old | more


def spoilt(value: float) -> Callable[[Tensors], Tensors]:
    def change(old: Tensors) -> Tensors:
        old[f"{FIRST}attn.c_attn.lora_A.weight"][1, 3] = value
        return old

    return change


MISFITS: dict[str, tuple[Fields, Callable[[Tensors], Tensors], str]] = {
    "a target without tensors": (
        {"target_modules": ["c_attn", "c_proj"]},
        as_it_is,
        "adapter_config.json asks for 'transformer.h.0.attn.c_proj.lora_A.weight' (12 in all), "
        "which adapter_model.safetensors lacks",
    ),
    "a block without tensors": (
        {"base_model_name_or_path": "two/blocks"},
        without("h.2."),
        "'transformer.h.2.attn.c_attn.lora_A.weight' (2 in all), which adapter_model.safetensors "
        "lacks; the adapter was made for 'two/blocks'",
    ),
    "half an update": ({}, without("h.1.attn.c_attn.lora_B"), "asks for 'transformer.h.1.attn"),
    "a block too many": (
        {},
        lambda old: old | renamed(".h.2.", ".h.3.")(old),
        "tensor 'transformer.h.3.attn.c_attn.lora_A.weight' (2 in all) cannot be used",
    ),
    "tensors of no target": (
        {"layers_to_transform": [0, 1]},
        as_it_is,
        "tensor 'transformer.h.2.attn.c_attn.lora_A.weight' (2 in all) cannot be used",
    ),
    "an excluded layer": (
        {"exclude_modules": ["h.0.attn.c_attn"]},
        as_it_is,
        "tensor 'transformer.h.0.attn.c_attn.lora_A.weight' (2 in all) cannot be used",
    ),
    "a layer to be saved whole": (
        {"modules_to_save": ["attn.c_attn"]},
        as_it_is,
        "modules_to_save asks for 'transformer.h.0.attn.c_attn.bias' (6 in all)",
    ),
    "layers of another family": (
        {"target_modules": ["q_proj", "v_proj"]},
        renamed("c_attn", "q_proj"),
        "no layer of this model is chosen by target_modules ['q_proj', 'v_proj']; this model has "
        "attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj; the adapter was made for",
    ),
    "no targets": (
        {"target_modules": None},
        as_it_is,
        "no layer of this model is chosen by target_modules []",
    ),
    "lengths without DoRA": (
        {},
        with_more(attn__c_attn__lora_magnitude_vector=(48,)),
        "tensor 'transformer.h.0.attn.c_attn.lora_magnitude_vector' cannot be used",
    ),
    "DoRA without lengths": (
        {"use_dora": True},
        as_it_is,
        "asks for 'transformer.h.0.attn.c_attn.lora_magnitude_vector' (3 in all)",
    ),
    "biases that the configuration denies": (
        {},
        with_more(attn__c_attn__base_layer__bias=(48,)),
        "'transformer.h.0.attn.c_attn.base_layer.bias' is not that of this model: it was trained",
    ),
    "biases of B that the configuration denies": (
        {},
        with_more(attn__c_attn__lora_B__bias=(48,)),
        "tensor 'transformer.h.0.attn.c_attn.lora_B.bias' cannot be used",
    ),
    "another rank": ({"r": 3}, as_it_is, "and the rank in adapter_config.json 3"),
    "another rank in a pattern": (
        {"rank_pattern": {r"h\.1\..*": 4}},
        as_it_is,
        "update of 'transformer.h.1.attn.c_attn' has shapes [2, 16] and [48, 2]",
    ),
    "another width": (
        {},
        lambda old: {n: t[:, :8] if "lora_A" in n else t for n, t in old.items()},
        "the model's layer is 48 by 16",
    ),
    "a module without tensors": (
        {"modules_to_save": ["lm_head"]},
        as_it_is,
        "modules_to_save asks for 'lm_head.weight', which adapter_model.safetensors lacks",
    ),
    "part of a module": (
        {"modules_to_save": ["ln_f"]},
        lambda old: old | {"base_model.model.transformer.ln_f.weight": torch.ones(16)},
        "modules_to_save asks for 'transformer.ln_f.bias', which",
    ),
    "labels without their layer": (
        {"modules_to_save": ["score"]},
        as_it_is,
        "modules_to_save asks for 'score.weight', which adapter_model.safetensors lacks",
    ),
    "a longer vocabulary": (
        {},
        lambda old: old | {"base_model.model.lm_head.weight": torch.ones(300, 16)},
        "'lm_head.weight' has shape [300, 16], and this model's [257, 16]",
    ),
    "a tensor under two names": (
        {},
        lambda old: old | renamed("base_model.model.", "")(old),
        "is there twice, under two names",
    ),
    "a compiled model": (
        {},
        renamed("base_model.model.", "base_model.model._orig_mod."),
        "tensor '_orig_mod.transformer.h.0.attn.c_attn.lora_A.weight' (6 in all) cannot be used",
    ),
    "a model in parallel": (
        {},
        renamed("base_model.model.", "module.base_model.model."),
        "tensor 'module.base_model.model.transformer.h.0.attn.c_attn.lora_A.weight' (6 in all)",
    ),
    "a bare model": (
        {},
        renamed("transformer.h", "h"),
        "tensor 'h.0.attn.c_attn.lora_A.weight' (6 in all) cannot be used",
    ),
    "another adapter's name": (
        {},
        renamed("lora_A", "lora_A.mine"),
        "tensor 'transformer.h.0.attn.c_attn.lora_A.mine.weight' (3 in all) cannot be used",
    ),
    "NaN": ({}, spoilt(float("nan")), "h.0.attn.c_attn.lora_A.weight' holds NaN or infinity"),
    "infinity": ({}, spoilt(float("-inf")), "h.0.attn.c_attn.lora_A.weight' holds NaN or infinity"),
    "an alpha of infinity": ({"lora_alpha": float("inf")}, as_it_is, "lora_alpha of"),
    "a rank of text": ({"r": "2"}, as_it_is, "r of 'transformer.h.0.attn.c_attn' is '2'"),
    "a pattern that takes forever": (
        {"target_modules": r"(.*)*x"},
        as_it_is,
        "the pattern '(.*)*x' could take forever to match",
    ),
    "a broken pattern": ({"target_modules": "(h"}, as_it_is, "'(h' is no pattern"),
    "targets that are no names": (
        {"target_modules": [1]},
        as_it_is,
        "target_modules is [1]",
    ),
    "a field of a later PEFT": (
        {"spectral_gain": 0.5},
        as_it_is,
        "spectral_gain is 0.5, which is not supported",
    ),
    "another kind of task": (
        {"task_type": "TOKEN_CLS"},
        as_it_is,
        "task_type is 'TOKEN_CLS', which is not supported",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_whatever_is_lacking_or_left_over_is_named(
    name: str,
    changed: Callable[..., Path],
    folders: dict[str, Path],
    tokenizer: Tokenizer,
) -> None:
    fields, tensors, message = MISFITS[name]
    folder = changed("lora", fields, tensors)
    with pytest.raises(TunewiseError) as caught:
        read(folders["gpt2"], TASK, tokenizer, kind="lora", **{"from": str(folder)})
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)


PROMPT_MISFITS: dict[str, tuple[Fields, Callable[[Tensors], Tensors], str]] = {
    "more layers": ({"num_layers": 12}, as_it_is, "num_layers is 12; this model has 3"),
    "other heads": ({"num_attention_heads": 4}, as_it_is, "num_attention_heads is 4"),
    "another width": ({"token_dim": 8}, as_it_is, "token_dim is 8; this model has 16"),
    "another length": ({"num_virtual_tokens": 2}, as_it_is, "[2, 16] is needed"),
    "no prompt": ({}, without("prompt"), "asks for 'prompt_embeddings'"),
    "more tensors": (
        {},
        lambda old: old | {"base_model.encoder.weight": torch.ones(2)},
        "tensor 'encoder.weight' cannot be used",
    ),
    "NaN": ({}, lambda old: {n: t / 0 * 0 for n, t in old.items()}, "holds NaN or infinity"),
    "two parts of a model": ({"num_transformer_submodules": 2}, as_it_is, "submodules is 2"),
}


@pytest.mark.parametrize("name", PROMPT_MISFITS)
def test_a_soft_prompt_that_does_not_fit_is_refused(
    name: str, changed: Callable[..., Path], folders: dict[str, Path], tokenizer: Tokenizer
) -> None:
    fields, tensors, message = PROMPT_MISFITS[name]
    # The file must hold something.
    folder = changed("prompt", fields, lambda old: tensors(old) or {"x": torch.ones(1)})
    with pytest.raises(TunewiseError) as caught:
        read(folders["gpt2"], TASK, tokenizer, kind="soft_prompt", **{"from": str(folder)})
    assert message in str(caught.value)


def test_a_classifier_without_its_label_layer_is_refused(
    changed: Callable[..., Path], folders: dict[str, Path], tokenizer: Tokenizer
) -> None:
    folder = changed("labels", {"modules_to_save": None}, without("score"))
    with pytest.raises(TunewiseError, match=r"asks for 'score\.weight', which .* lacks"):
        read(folders["gpt2"], LABELS, tokenizer, kind="lora", **{"from": str(folder)})


@pytest.mark.parametrize("peft_type", ["LORA", "PROMPT_TUNING"])
def test_every_field_of_peft_is_known_or_refused_when_it_is_set(peft_type: PeftType) -> None:
    made = peft.LoraConfig() if peft_type == "LORA" else peft.PromptTuningConfig()
    known = UNDERSTOOD[peft_type] | UNDERSTOOD_IN_ALL | ALLOWED_VALUES.keys()
    others = made.to_dict().keys() - known
    assert all(not made.to_dict()[field] for field in others), "off by default, refused otherwise"


def test_an_adapter_of_a_run_that_holds_nan_is_refused(trained: Trained) -> None:
    folder = trained("gpt2", {"kind": "lora", "rank": 2})
    path = folder / "adapter" / "adapter.safetensors"
    tensors = load_file(path)
    tensors["blocks.1.attention.out.A"][0, 0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(
        TunewiseError, match=r"'blocks\.1\.attention\.out\.A' holds NaN or infinity"
    ):
        load_trained(folder)
