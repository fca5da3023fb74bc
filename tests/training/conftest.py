"""A tiny model with weights of some size, as a folder and as an object, and sequences for it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import save_tiny

from tunewise.data.encode import Encoded
from tunewise.models import LanguageModel
from tunewise.models.folder import load_model

SIZES: dict[str, Any] = {
    "vocabulary_size": 50,
    "context_length": 32,
    "num_layers": 2,
    "mlp_dim": 32,
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("gpt2"), **SIZES)


@pytest.fixture
def new_model(folder: Path) -> Callable[..., LanguageModel]:
    """Return a function that makes the model anew, all of it trainable."""

    def make(num_labels: int | None = None) -> LanguageModel:
        model = load_model(folder)
        if num_labels is not None:
            model.use_label_head(num_labels, torch.Generator().manual_seed(1))
        model.requires_grad_(True)
        return model

    return make


@pytest.fixture(scope="session")
def texts() -> list[Encoded]:
    """Return sequences of uneven lengths, of which only a part is scored."""
    return [encoded(number, labelled=False) for number in range(12)]


@pytest.fixture(scope="session")
def labelled() -> list[Encoded]:
    """Return sequences of uneven lengths with one of three labels each."""
    return [encoded(number, labelled=True) for number in range(12)]


def encoded(number: int, labelled: bool) -> Encoded:
    chance = random.Random(number)
    ids = np.array([chance.randrange(50) for _ in range(chance.choice((3, 3, 7, 30)))], np.int32)
    if labelled:
        return Encoded(f"rows:{number}", ids, len(ids), label=number % 3)
    return Encoded(f"rows:{number}", ids, prompt_length=number % 3)
