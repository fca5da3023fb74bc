"""Fixtures: a tiny model of every family with weights at which a mistake shows, and sequences."""

import pytest
import torch
from tiny import REFERENCE_SIZES, draw_around_start, tiny_config, uneven_sequences

from tunewise.models import FAMILIES, LanguageModel, ModelConfig
from tunewise.models.folder import build_model

Sequences = list[list[int]]


@pytest.fixture(params=FAMILIES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    """A tiny shape of every family."""
    return tiny_config(request.param, **REFERENCE_SIZES)


@pytest.fixture
def model(config: ModelConfig, device: torch.device) -> LanguageModel:
    """A tiny model of every family, with random weights, on every device."""
    model = build_model(config, "cpu")
    draw_around_start(model)
    return model.to(device).eval()


@pytest.fixture
def sequences() -> Sequences:
    """Token ids of uneven lengths, some equal, some past the window, one of a single token."""
    return uneven_sequences()
