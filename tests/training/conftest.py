"""A tiny model with weights of some size, as a folder and as an object, and sequences for it."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tunewise.data.encode import Encoded
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model, load_model, save_model
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.language_model import initialise

SHAPE = GPT2Config(
    vocabulary_size=50, context_length=32, model_dim=16, num_heads=2, num_layers=2, mlp_dim=32
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = torch.Generator().manual_seed(7)
    model = build_model(SHAPE, "cpu")
    initialise(model, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
    path = tmp_path_factory.mktemp("gpt2")
    save_model(model, path, end_of_text=0)
    return path


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
