"""LoRA: an update of low rank beside exactly the layers that were asked for."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.errors import ConfigError
from tunewise.methods.lora import HEAD, LoRA
from tunewise.methods.lora_layers import LoRALinear
from tunewise.methods.method import merge
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.folder import load_model
from tunewise.models.layers import Linear


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> LanguageModel:
    return load_model(folders[request.param]).eval()


def adapt(model: LanguageModel, **settings: Any) -> None:
    LoRA(**settings).adapt(model, torch.Generator().manual_seed(0))


def fill(model: LanguageModel) -> None:
    """Give every B values, as if it had been trained."""
    generator = torch.Generator().manual_seed(1)
    for layer in updates(model).values():
        torch.nn.init.normal_(layer.B, std=0.2, generator=generator)


def updates(model: LanguageModel) -> dict[str, LoRALinear]:
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, LoRALinear)}


@torch.no_grad()
def logits(model: LanguageModel, sequences: list[Encoded]) -> Tensor:
    (batch,) = pack(sequences, 10_000)
    return model.logits(model.hidden(batch))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True])
def test_a_fresh_update_changes_nothing(
    model: LanguageModel, texts: list[Encoded], precision: torch.dtype, training: bool
) -> None:
    model.requires_grad_(False)
    model.set_precision(precision)
    before = logits(model, texts)
    adapt(model, targets=(*LanguageModel.layers, HEAD), rank=4, dropout=0.3)
    model.set_precision(precision)
    model.train(training)
    assert torch.equal(logits(model, texts), before)


@pytest.mark.parametrize("scaling", ["alpha/r", "alpha/sqrt(r)", "alpha"])
def test_merged_equals_unmerged_and_differs_from_the_base(
    model: LanguageModel, texts: list[Encoded], scaling: str
) -> None:
    base = logits(model, texts)
    adapt(model, targets=(*LanguageModel.layers, HEAD), rank=4, alpha=3.0, scaling=scaling)
    fill(model)
    unmerged = logits(model, texts)
    merge(model)
    assert not updates(model)
    torch.testing.assert_close(logits(model, texts), unmerged, rtol=1e-4, atol=1e-4)
    assert (unmerged - base).abs().max() > 0.1


def test_merging_leaves_the_frozen_weights_and_the_embedding_alone(model: LanguageModel) -> None:
    adapt(model, targets=(*LanguageModel.layers, HEAD))
    fill(model)
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    copies = {name: parameter.detach().clone() for name, parameter in frozen.items()}
    merge(model)
    for name, parameter in frozen.items():
        assert torch.equal(parameter, copies[name]), name
    assert not model.head_is_tied


@pytest.mark.parametrize(
    ("scaling", "scale"), [("alpha/r", 3.0), ("alpha/sqrt(r)", 6.0), ("alpha", 12.0)]
)
def test_the_three_scalings_are_what_they_say(
    model: LanguageModel, scaling: str, scale: float
) -> None:
    adapt(model, rank=4, alpha=12.0, scaling=scaling)
    assert {layer.scale for layer in updates(model).values()} == {scale}


def test_the_update_of_a_layer_is_scale_times_b_a_x(model: LanguageModel) -> None:
    adapt(model, rank=4, alpha=12.0)
    fill(model)
    layer = updates(model)["blocks.1.feed_forward.up"]
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = layer.base(x) + 3.0 * (x @ layer.A.T) @ layer.B.T
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_a_starts_uniform_within_one_over_the_root_of_its_inputs(model: LanguageModel) -> None:
    adapt(model, rank=64, init="kaiming")
    for name, layer in updates(model).items():
        bound = 1 / math.sqrt(layer.A.shape[1])
        assert layer.A.abs().max() <= bound, name
        # Of a uniform distribution: the greatest of many draws comes near the bound, the
        # deviation is bound / sqrt(3).
        assert layer.A.abs().max() > 0.98 * bound, name
        assert float(layer.A.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1), name


def test_a_can_start_gaussian_with_a_deviation_of_one_over_rank(model: LanguageModel) -> None:
    adapt(model, rank=50, init="gaussian")
    for name, layer in updates(model).items():
        assert float(layer.A.detach().std()) == pytest.approx(1 / 50, rel=0.15), name
        assert layer.A.abs().max() > 2.5 / 50, name


@pytest.mark.parametrize("target", LanguageModel.layers)
def test_each_target_names_one_layer_of_each_block(model: LanguageModel, target: str) -> None:
    adapt(model, targets=(target,))
    assert set(updates(model)) == {
        f"blocks.{index}.{LanguageModel.layers[target]}" for index in range(3)
    }


def test_the_head_is_a_target_of_its_own_and_stays_tied(
    model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    adapt(model, targets=(HEAD,), blocks=(1,))
    assert "method.blocks: (1,) changes nothing" in caplog.text
    assert set(updates(model)) == {"head"}
    assert model.head_is_tied
    assert {name for name, _ in model.trainable()} == {"head.A", "head.B"}


@pytest.mark.parametrize(
    ("blocks", "chosen"),
    [("all", {0, 1, 2}), ("last-1", {2}), ("last-3", {0, 1, 2}), ((2, 0), {0, 2}), ((1,), {1})],
)
def test_exactly_the_named_blocks_have_an_update(
    model: LanguageModel, blocks: str | tuple[int, ...], chosen: set[int]
) -> None:
    adapt(model, targets=("value", "down"), blocks=blocks)
    layers = ("attention.value", "feed_forward.down")
    assert set(updates(model)) == {
        f"blocks.{index}.{layer}" for index in chosen for layer in layers
    }


def test_the_order_in_which_blocks_and_targets_are_listed_does_not_matter(
    folders: dict[str, Path],
) -> None:
    one, other = load_model(folders["gpt2"]), load_model(folders["gpt2"])
    adapt(one, targets=("query", "down"), blocks=(0, 2))
    adapt(other, targets=("down", "query"), blocks=(2, 0))
    assert {n: p.tolist() for n, p in one.trainable()} == {
        n: p.tolist() for n, p in other.trainable()
    }


def test_only_the_two_factors_of_each_update_are_trained(model: LanguageModel) -> None:
    adapt(model, rank=4, targets=("query", "up"))
    wanted = {f"{name}.{factor}" for name in updates(model) for factor in "AB"}
    assert {name for name, _ in model.trainable()} == wanted
    # rank · (in + out) numbers each: 16 to 16, and 16 to 64
    assert model.count_parameters()[1] == 3 * (4 * (16 + 16) + 4 * (16 + 64))


# What cannot be done is answered with what can.


@pytest.mark.parametrize("target", ["querry", "c_attn", ""])
def test_an_unknown_target_is_answered_with_the_known_ones(target: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LoRA(targets=("key", target))
    assert all(name in str(caught.value) for name in (*LanguageModel.layers, HEAD))


def test_a_misspelt_target_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'query'"):
        LoRA(targets=("querry",))


@pytest.mark.parametrize("blocks", ["some", "last", "last-", "last-0", "last--1", "first-2", ""])
def test_blocks_that_cannot_be_read_are_answered_with_the_forms_there_are(blocks: str) -> None:
    with pytest.raises(ValidationError, match=r"`all`, `last-K` or a list"):
        LoRA(blocks=blocks)


@pytest.mark.parametrize(
    "settings",
    [{"targets": ()}, {"targets": ("up", "up")}, {"blocks": ()}, {"blocks": (1, 1)}, {"rank": 0}],
)
def test_empty_or_repeated_choices_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoRA(**settings)


@pytest.mark.parametrize(
    ("blocks", "found"),
    [("last-99", "99"), ((99,), "99"), ((0, 3), "3"), ((-1,), "-1")],
)
def test_blocks_that_the_model_does_not_have_are_named_with_those_it_has(
    model: LanguageModel, blocks: str | tuple[int, ...], found: str
) -> None:
    with pytest.raises(ConfigError, match=rf"method\.blocks: .*{found}.*the model has (3|0 to 2)"):
        adapt(model, blocks=blocks)


def test_the_head_of_a_classifier_is_no_target_since_it_is_trained_in_full(
    model: LanguageModel,
) -> None:
    model.use_label_head(3, torch.Generator())
    with pytest.raises(ConfigError, match=r"'head' .* query, key, value, out, up, down"):
        adapt(model, targets=("query", HEAD))


def test_nothing_is_dropped_in_evaluation() -> None:
    torch.manual_seed(0)
    layer = LoRALinear(Linear(7, 5).requires_grad_(False), rank=3, scale=1.5, dropout=0.9).eval()
    torch.nn.init.normal_(layer.A)
    torch.nn.init.normal_(layer.B)
    x = torch.randn(40, 7)
    assert_close(layer(x), layer.merged()(x), rtol=1e-4, atol=1e-4)
