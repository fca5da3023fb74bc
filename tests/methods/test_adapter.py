"""Adapters: bottlenecks that begin near the frozen model."""

from pathlib import Path

import pytest
import torch
from tiny import batch_of

from tunewise.methods.adapter import Adapter
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.folder import load_model


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> LanguageModel:
    return load_model(folders[request.param]).eval()


@torch.no_grad()
def test_a_fresh_adapter_changes_little_but_something(model: LanguageModel) -> None:
    tokens = torch.arange(9)
    before = model.hidden(batch_of(tokens))
    Adapter(bottleneck=8).adapt(model, torch.Generator().manual_seed(0))
    change = (model.hidden(batch_of(tokens)) - before).abs().max()
    assert 0 < change < 0.01


def test_fresh_weights_lie_within_two_deviations_and_biases_are_zero(model: LanguageModel) -> None:
    Adapter(bottleneck=64).adapt(model, torch.Generator().manual_seed(0))
    for name, parameter in model.trainable():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            # The deviation of a normal distribution of deviation 1, cut off at 2, is 0.88.
            assert float(parameter.detach().std()) == pytest.approx(0.0088, rel=0.1)
            assert 0.015 < parameter.abs().max() <= 0.02


def test_a_bottleneck_of_m_costs_2_m_d_m_d_twice_in_a_block(model: LanguageModel) -> None:
    Adapter(bottleneck=5).adapt(model, torch.Generator())
    assert model.count_parameters()[1] == 3 * 2 * (2 * 5 * 16 + 5 + 16)
