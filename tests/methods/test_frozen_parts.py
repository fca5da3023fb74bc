"""Which weights the methods that add nothing train, and which they leave alone."""

from pathlib import Path

import pytest
import torch

from tunewise.errors import ConfigError
from tunewise.methods.bitfit import BitFit
from tunewise.methods.full import Full
from tunewise.methods.last_blocks import LastBlocks
from tunewise.methods.last_layer import LastLayer
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.folder import load_model


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> LanguageModel:
    return load_model(folders[request.param])


def trained(model: LanguageModel) -> set[str]:
    return {name for name, _ in model.trainable()}


def test_full_trains_everything_and_keeps_the_head_tied(model: LanguageModel) -> None:
    Full().adapt(model, torch.Generator())
    assert trained(model) == {name for name, _ in model.named_parameters()}
    assert model.head_is_tied


def test_the_last_layer_of_a_language_model_is_parted_from_its_frozen_embedding(
    model: LanguageModel,
) -> None:
    before = model.get_parameter("token_embedding.weight").detach().clone()
    assert model.head_is_tied
    LastLayer().adapt(model, torch.Generator())
    assert trained(model) == {"head.weight"}
    assert not model.head_is_tied
    embedding = model.get_parameter("token_embedding.weight")
    assert torch.equal(model.get_parameter("head.weight"), before)
    with torch.no_grad():
        model.get_parameter("head.weight").add_(1.0)
    assert torch.equal(embedding, before)


def test_the_last_layer_of_a_classifier_is_its_label_layer(model: LanguageModel) -> None:
    model.use_label_head(3, torch.Generator())
    LastLayer().adapt(model, torch.Generator())
    assert trained(model) == {"head.weight"}
    assert model.get_parameter("head.weight").shape[0] == 3


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_last_blocks_come_with_the_final_norm_and_the_output_layer(
    model: LanguageModel, blocks: int
) -> None:
    LastBlocks(blocks=blocks).adapt(model, torch.Generator())
    tops = tuple(f"blocks.{index}." for index in range(3 - blocks, 3))
    for name, parameter in model.named_parameters():
        wanted = name.startswith((*tops, "final_norm.", "head."))
        assert parameter.requires_grad == wanted, name
    assert "head.weight" in trained(model)


def test_a_model_without_biases_is_refused_by_bitfit(model: LanguageModel) -> None:
    for module in model.modules():
        if isinstance(getattr(module, "bias", None), torch.nn.Parameter):
            module.bias = None
    with pytest.raises(ConfigError, match="bitfit trains biases, and this model has none"):
        BitFit().adapt(model, torch.Generator())


def test_more_blocks_than_there_are_is_an_error_that_counts_them(model: LanguageModel) -> None:
    with pytest.raises(ConfigError, match=r"method\.blocks: 99 .* has 3"):
        LastBlocks(blocks=99).adapt(model, torch.Generator())
