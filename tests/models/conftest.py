"""Tiny models with weights at which a mistake shows, and sequences for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from every_family import Sequences, config, model, sequences

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, pack
from tunewise.models import ModelConfig
from tunewise.models.folder import save_model

from .folders import fresh_model

__all__ = ["config", "model", "sequences"]


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
