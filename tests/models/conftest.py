"""Tiny models with weights at which a mistake shows, and sequences for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import REFERENCE_SIZES, draw_around_start, tiny_config, uneven_sequences

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, pack
from tunewise.models import FAMILIES, LanguageModel, ModelConfig
from tunewise.models.folder import build_model, save_model

from .folders import fresh_model

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


@pytest.fixture
def packed(device: torch.device) -> Callable[..., Batch]:
    """Return a function that packs sequences, with labels or without, into one batch."""

    def make(sequences: Sequences, labels: list[int] | None = None) -> Batch:
        encoded = [
            Encoded(str(i), torch.tensor(ids).numpy(), 1, None if labels is None else labels[i])
            for i, ids in enumerate(sequences)
        ]
        (batch,) = pack(encoded, tokens_per_pass=10**6)
        return batch.to(device)

    return make


@pytest.fixture
def folder(config: ModelConfig, tmp_path: Path) -> Path:
    """A sound folder of every family."""
    save_model(fresh_model(config), tmp_path / "model", end_of_text=0)
    return tmp_path / "model"
