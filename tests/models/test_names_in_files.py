"""Prefixes that other programs put before names of weights are read; missing weights are named."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from tiny import REFERENCE_SIZES, batch_of, every_family, reference
from torch import Tensor

from tunewise.errors import ModelError
from tunewise.models import ModelConfig
from tunewise.models.folder import build_model, load_model, read_shape, save_model
from tunewise.models.tensors import EMBEDDING, fingerprint

from .folders import change_weights, fresh_model

Tensors = dict[str, Tensor]
IDS = torch.arange(1, 30)
HEAD = "lm_head.weight"


def renamed(rule: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {rule(name): tensor for name, tensor in tensors.items()}


WRAPPED: dict[str, Callable[[str], str]] = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "data parallelism": lambda name: f"module.{name}",
    "both": lambda name: f"_orig_mod.module.{name}",
    "a compiled block": lambda name: name.replace("h.1.", "h.1._orig_mod."),
    "an adapter merged in place": lambda name: f"base_model.model.{name}",
    "a trainer's own": lambda name: f"net.{name}",
    "no name prefix": lambda name: "module." + name.removeprefix("transformer."),
    "only some layers": lambda name: name.replace(".attn.", "._fsdp_wrapped_module.attn."),
}


@pytest.mark.parametrize(
    ("wrapper", "untied"),
    [*((w, False) for w in WRAPPED), ("both", True), ("no name prefix", True)],
)
def test_names_that_a_program_wrapped_are_the_same_weights(
    wrapper: str,
    untied: bool,
    config: ModelConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = fresh_model(config)
    if untied:
        model.untie_head()
        with torch.no_grad():
            model.get_parameter("head.weight").mul_(2)
    save_model(model, tmp_path, end_of_text=0)
    change_weights(tmp_path, renamed(WRAPPED[wrapper]))
    with caplog.at_level(logging.INFO):
        again = load_model(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    (said,) = caplog.messages
    assert "names such as" in said


@pytest.mark.parametrize("second", ["module.transformer.wte.weight", "wte.weight"])
def test_two_tensors_of_one_name_are_both_named(folder: Path, second: str) -> None:
    first = "transformer.wte.weight"
    change_weights(folder, lambda tensors: tensors | {second: tensors[first] + 1})
    with pytest.raises(ModelError, match=r"would both be|unexpected") as caught:
        load_model(folder)
    assert second in str(caught.value)


def test_two_whole_models_in_one_file_are_refused(folder: Path) -> None:
    change_weights(folder, lambda ts: ts | {f"ema.{name}": t + 1 for name, t in ts.items()})
    with pytest.raises(ModelError, match=r"unexpected|would both be"):
        load_model(folder)


def test_of_many_missing_tensors_several_are_named(folder: Path) -> None:
    change_weights(folder, lambda ts: {n: t for n, t in ts.items() if ".h.2." not in n})
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert str(caught.value).count("h.2.") == 5 and "more) are missing" in str(caught.value)


def test_of_many_unexpected_tensors_several_are_named_and_an_adapter_is_recognised(
    folder: Path,
) -> None:
    extra = {f"transformer.h.0.attn.lora_A.{n}": torch.ones(2) for n in range(7)}
    change_weights(folder, lambda tensors: tensors | extra)
    with pytest.raises(ModelError, match=r"7 tensors .* and 2 more.*merge_and_unload") as caught:
        load_model(folder)
    assert str(caught.value).count(".lora_A.") == 5


def test_an_adapter_that_was_not_merged_is_told_so(folder: Path) -> None:
    def wrap(name: str) -> str:
        return name.replace("c_fc.", "c_fc.base_layer.")

    extra = {"transformer.h.0.mlp.c_fc.lora_A.default.weight": torch.ones(2)}
    change_weights(folder, lambda tensors: renamed(wrap)(tensors) | extra)
    with pytest.raises(ModelError, match=r"are missing; in PEFT, merge_and_unload"):
        load_model(folder)


# Parts of a folder that a language model does not need.


@pytest.mark.parametrize(
    "kind", ["GPT2DoubleHeadsModel", "GPT2ForTokenClassification", "GPT2ForQuestionAnswering"]
)
def test_an_output_layer_for_another_kind_of_task_is_left_out_and_named(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(transformers, kind)(reference("gpt2").config).save_pretrained(tmp_path)
    model = load_model(tmp_path).eval()
    (said,) = caplog.messages
    assert "left out: they answer another kind of task" in said
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    expected = theirs(IDS[None]).logits[0]
    logits = model.logits(model.hidden(batch_of(IDS)))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_a_value_head_is_left_out_and_the_bias_of_an_output_layer_is_not(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change_weights(folder, lambda tensors: tensors | {"v_head.summary.weight": torch.ones(1, 2)})
    load_model(folder)
    assert "'v_head.summary.weight' is left out" in caplog.text
    change_weights(folder, lambda tensors: tensors | {"lm_head.bias": torch.ones(2)})
    with pytest.raises(ModelError, match=r"'lm_head\.bias' is unexpected"):
        load_model(folder)


def test_an_adapter_beside_a_model_is_left_out_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "adapter_config.json").write_text("{}")
    load_model(folder)
    assert "holds an adapter of PEFT too" in caplog.text


# A hash of the weights.


@every_family
def test_the_hash_of_weights_is_that_of_their_values_and_not_of_their_files(
    family: str, tmp_path: Path
) -> None:
    theirs = reference(family)
    folders = [tmp_path / name for name in ("whole", "shards", "wrapped", "changed", "half")]
    for folder in folders:
        theirs.save_pretrained(folder, max_shard_size="40KB" if folder.name == "shards" else "1GB")
    change_weights(tmp_path / "wrapped", renamed(lambda name: f"_orig_mod.{name}"))
    bias = "transformer.h.1.ln_1.bias"
    change_weights(tmp_path / "changed", lambda tensors: tensors | {bias: tensors[bias] + 1e-5})
    change_weights(tmp_path / "half", lambda ts: {name: t.half() for name, t in ts.items()})
    whole, shards, wrapped, *others = (fingerprint(load_model(f), f) for f in folders)
    assert whole == shards == wrapped
    assert len({whole, *others}) == 3


# An output layer and an embedding that config.json says are one.


@every_family
@pytest.mark.parametrize("shape", ["another output layer", "an equal one", "an output layer alone"])
def test_an_output_layer_beside_or_in_place_of_the_embedding_is_what_transformers_takes(
    family: str, shape: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference(family).save_pretrained(tmp_path)

    def change(tensors: Tensors) -> Tensors:
        table = tensors["transformer.wte.weight"]
        if shape == "an output layer alone":
            del tensors["transformer.wte.weight"]
        factor = 2 if shape == "another output layer" else 1
        return tensors | {HEAD: (table * factor).clone()}

    change_weights(tmp_path, change)
    model = load_model(tmp_path).eval()
    assert read_shape(tmp_path) == model.config  # and an estimate counts it
    assert model.head_is_tied == (shape != "another output layer") == model.config.tied
    assert ("tie_word_embeddings" in caplog.text) == (shape == "another output layer")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    hidden = model.hidden(batch_of(IDS))
    expected = theirs(IDS[None]).logits[0]
    torch.testing.assert_close(model.logits(hidden), expected, atol=1e-4, rtol=0)
    save_model(model, tmp_path / "again", end_of_text=0)  # and it stays so
    again = load_model(tmp_path / "again")
    assert torch.equal(again.get_parameter("head.weight"), model.get_parameter("head.weight"))


def test_an_output_layer_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    reference("gpt2").save_pretrained(tmp_path)
    change_weights(tmp_path, lambda tensors: tensors | {HEAD: torch.ones(104, 32)})
    with pytest.raises(ModelError, match=r"lm_head\.weight.*\[104, 32\].*\[100, 32\]"):
        load_model(tmp_path)


# Which files and fields.


def test_of_one_file_and_an_index_the_one_file_is_read_as_in_transformers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference("gpt2").save_pretrained(tmp_path)
    expected = load_model(tmp_path).get_parameter(EMBEDDING).clone()
    other = reference("gpt2")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    for path in (tmp_path / "shards").glob("*.safetensors*"):
        path.rename(tmp_path / path.name)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(theirs.get_parameter("transformer.wte.weight"), expected)
    assert torch.equal(load_model(tmp_path).get_parameter(EMBEDDING), expected)
    assert "are not" in caplog.text


@every_family
@pytest.mark.parametrize("activation", ["gelu_pytorch_tanh", "gelu_new"])
def test_two_names_of_one_activation_are_one(family: str, activation: str, tmp_path: Path) -> None:
    theirs = reference(family).eval()
    theirs.config.activation_function = activation
    theirs.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    model = load_model(tmp_path).eval()
    found = model.logits(model.hidden(batch_of(IDS)))
    torch.testing.assert_close(found, again(IDS[None]).logits[0], atol=1e-4, rtol=0)


MEANINGLESS = {
    "gpt2": {"reorder_and_upcast_attn": True, "summary_type": "mean", "use_cache": False},
    "gpt_neo": {"classifier_dropout": 0.5, "use_cache": False},
}
"""Fields that change nothing that is computed here."""


@every_family
def test_every_field_of_transformers_is_read_or_refused_or_changes_no_answer(
    family: str, tmp_path: Path
) -> None:
    """Set each truth value or word of transformers' configuration to another, and compare."""
    theirs = reference(family).eval()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    fields = [f for f, v in values.items() if isinstance(v, bool) and f != "tie_word_embeddings"]
    changes = {field: not values[field] for field in fields}
    changes |= MEANINGLESS[family] | {"activation_function": "relu", "n_inner": 64}
    for field, value in changes.items():
        path.write_text(json.dumps(values | {field: value}))
        try:
            model = load_model(tmp_path).eval()
        except ModelError as error:
            assert field in str(error) or "shape" in str(error)
            continue
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        found = model.logits(model.hidden(batch_of(IDS)))
        expected = again(IDS[None]).logits[0]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0, msg=field)


def test_packed_weights_are_refused_by_the_field_that_says_so(folder: Path) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match="quantization_config"):
        load_model(folder)


# Numbers.


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("trained", [False, True])
def test_a_weight_that_is_not_finite_is_refused_when_it_is_read(
    folder: Path, number: float, trained: bool
) -> None:
    def damage(tensors: Tensors) -> Tensors:
        tensors["transformer.h.1.mlp.c_fc.weight"][2, 3] = number
        return tensors

    change_weights(folder, damage)
    model = load_model(folder).requires_grad_(trained)
    with pytest.raises(ModelError, match=r"blocks\.1\.feed_forward\.up\.weight.*NaN") as caught:
        model.set_precision(torch.bfloat16)
    assert str(folder) in str(caught.value)


def test_large_numbers_are_finite(folder: Path) -> None:
    model = load_model(folder)
    with torch.no_grad():
        model.get_parameter(EMBEDDING).fill_(3e38)  # their sum is infinite
    model.set_precision(torch.float32)


def test_a_shape_without_weights_has_no_numbers_to_look_at(config: ModelConfig) -> None:
    build_model(config).set_precision(torch.bfloat16)
    assert REFERENCE_SIZES["vocabulary_size"] == config.vocabulary_size
