"""Model folders: transformers reads what we write, and we read what it writes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny import batch_of, reference
from torch import Tensor

from tunewise.models import FAMILIES, LanguageModel, ModelConfig
from tunewise.models.folder import load_model, read_config, save_model

from .folders import change_weights, fresh_model

LABELS = ["bad", "fair", "good"]


# What we write, others read.


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_transformers_reads_our_language_model(
    config: ModelConfig, tied: bool, tmp_path: Path
) -> None:
    model = fresh_model(config)
    if not tied:
        _untie(model)
    save_model(model, tmp_path, end_of_text=0)
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) == (not tied)
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    _assert_nothing_amiss(loading)
    assert type(theirs).__name__ == model.language_architecture
    ids = torch.arange(1, 30)
    expected = theirs.eval()(ids[None]).logits[0]
    torch.testing.assert_close(_logits(model, ids), expected, atol=1e-4, rtol=0)


def test_transformers_reads_our_classifier(config: ModelConfig, tmp_path: Path) -> None:
    model = fresh_model(config)
    model.use_label_head(len(LABELS), torch.Generator().manual_seed(1))
    save_model(model, tmp_path, end_of_text=0, labels=LABELS)
    theirs, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    _assert_nothing_amiss(loading)
    assert type(theirs).__name__ == model.label_architecture
    assert theirs.config.id2label == dict(enumerate(LABELS))
    assert theirs.config.label2id == {label: index for index, label in enumerate(LABELS)}
    ids = torch.arange(1, 30)
    # A row padded on the right, as transformers batches them: it answers from the same token.
    padded = torch.cat([ids, torch.zeros(5, dtype=torch.int64)])
    found = theirs.eval()(padded[None]).logits[0]
    torch.testing.assert_close(_logits(model, ids)[-1], found, atol=1e-4, rtol=0)


def test_the_files_say_what_other_programs_look_for(folder: Path, config: ModelConfig) -> None:
    values = json.loads((folder / "config.json").read_text("utf-8"))
    assert values["model_type"] == config.family
    assert values["architectures"] == [FAMILIES[config.family].language_architecture]
    assert values["bos_token_id"] == values["eos_token_id"] == 0
    assert values["dtype"] == "float32"
    if config.family == "gpt2":
        assert values["n_ctx"] == values["n_positions"] == config.context_length


# What is written is what is read.


def test_a_folder_saved_again_is_the_same_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    save_model(model, tmp_path / "again", end_of_text=0)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    _assert_same_weights(load_model(tmp_path / "again"), model)


def test_weights_changed_in_place_leave_their_file_alone(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    assert (folder / "model.safetensors").read_bytes() == before
    assert not torch.equal(
        load_model(folder).get_parameter("token_embedding.weight"),
        model.get_parameter("token_embedding.weight"),
    )


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_computed_with_lies_in_memory_in_order_and_holds_nothing_else(
    folder: Path, dtype: torch.dtype, trained: bool
) -> None:
    stored = {n: p.detach().clone() for n, p in load_model(folder).named_parameters()}
    model = load_model(folder).requires_grad_(trained)
    model.set_precision(dtype)
    for name, parameter in model.named_parameters():
        expected = stored[name].to(torch.float32 if trained else dtype)
        assert parameter.is_contiguous(), name
        assert torch.equal(parameter, expected), name
        if dtype != torch.float32 and not trained:
            assert parameter.untyped_storage().nbytes() == expected.nbytes, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stay_in_the_type_they_are_stored_in(
    config: ModelConfig, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = fresh_model(config).to(dtype)
    save_model(model, tmp_path, end_of_text=0)
    _assert_same_weights(load_model(tmp_path), model)


def test_an_untied_model_comes_back_untied(config: ModelConfig, tmp_path: Path) -> None:
    model = fresh_model(config)
    _untie(model)
    save_model(model, tmp_path, end_of_text=0)
    again = load_model(tmp_path)
    assert not again.head_is_tied
    _assert_same_weights(again, model)


def test_a_classifier_comes_back_with_its_label_layer_or_as_its_language_model(
    config: ModelConfig, tmp_path: Path
) -> None:
    model = fresh_model(config)
    table = model.get_parameter("head.weight")
    model.use_label_head(len(LABELS))
    save_model(model, tmp_path, end_of_text=0, labels=LABELS)
    _assert_same_weights(load_model(tmp_path, len(LABELS)), model)
    language = load_model(tmp_path)
    assert language.head_is_tied
    assert torch.equal(language.get_parameter("head.weight"), table)


def test_the_shape_comes_back_from_config_json(config: ModelConfig, tmp_path: Path) -> None:
    unusual = config.model_copy(update={"norm_epsilon": 1e-4, "mlp_dim": 40, "tied": False})
    (tmp_path / "config.json").write_text(json.dumps(unusual.to_hugging_face()), "utf-8")
    assert read_config(tmp_path) == unusual


# What others write, we read.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_shards_are_read_as_one_file(family: str, tied: bool, tmp_path: Path) -> None:
    theirs = reference(family, tied=tied)
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    _assert_same_weights(load_model(tmp_path / "shards"), load_model(tmp_path / "whole"))


def test_names_without_the_prefix_are_read_too(folder: Path) -> None:
    expected = load_model(folder)

    def shorten(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert all(name.startswith(expected.name_prefix) for name in tensors)
        return {name.removeprefix(expected.name_prefix): t for name, t in tensors.items()}

    change_weights(folder, shorten)
    _assert_same_weights(load_model(folder), expected)


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("buffer", ["bias", "masked_bias"])
def test_masks_in_old_files_are_passed_over(folder: Path, prefix: str, buffer: str) -> None:
    expected = load_model(folder)
    inner = "attn.attention" if expected.config.family == "gpt_neo" else "attn"
    mask = torch.ones(1, 1, 8, 8).tril().bool()
    change_weights(folder, lambda tensors: {f"{prefix}h.0.{inner}.{buffer}": mask, **tensors})
    _assert_same_weights(load_model(folder), expected)


def test_a_second_copy_of_a_tied_output_layer_is_passed_over(folder: Path) -> None:
    expected = load_model(folder)
    table = expected.get_parameter("token_embedding.weight").detach().clone()
    change_weights(folder, lambda tensors: {"lm_head.weight": table, **tensors})
    again = load_model(folder)
    assert again.head_is_tied
    _assert_same_weights(again, expected)


def _untie(model: LanguageModel) -> None:
    model.untie_head()
    with torch.no_grad():
        model.get_parameter("head.weight").mul_(2)
    model.requires_grad_(False)


def _logits(model: LanguageModel, ids: Tensor) -> Tensor:
    hidden = model.hidden(batch_of(ids))
    return model.logits(hidden)


def _assert_nothing_amiss(loading: dict[str, Any]) -> None:
    assert not any(loading.values()), loading


def _assert_same_weights(found: LanguageModel, expected: LanguageModel) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert weight.dtype == theirs[name].dtype, name
        assert torch.equal(weight, theirs[name]), name
