"""Runs of tiny models of every family, with weights large enough for every layer to matter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import batch_of, save_tiny, write_splits
from torch import Tensor

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.models import FAMILIES, LanguageModel
from tunewise.run import run

TASKS: dict[str, dict[str, Any]] = {
    "labels": {"kind": "classification"},
    "language": {"kind": "generation", "template": "{text}:", "completion": " {label}"},
    "cloze": {
        "kind": "cloze",
        "template": "{text} It is",
        "verbalizers": {"bad": " bad", "fair": " fair", "good": " good"},
    },
}


@pytest.fixture(autouse=True)
def all_quick(quick: None) -> None:
    """Make every run of these tests a quick one."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Path]:
    """Return a model folder per family."""
    return {
        family: save_tiny(tmp_path_factory.mktemp(family), family, tokenizer) for family in FAMILIES
    }


@pytest.fixture(scope="session")
def labelled_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six rows per split, of three labels."""

    def rows(split: str) -> list[dict[str, str]]:
        return [{"text": f"{split} {n}", "label": ("bad", "fair", "good")[n % 3]} for n in range(6)]

    return write_splits(tmp_path_factory.mktemp("rows"), rows)


@pytest.fixture
def trained(folders: dict[str, Path], labelled_rows: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that trains on a task and returns the run's folder."""

    def train(family: str, method: dict[str, Any], task: str = "language") -> Path:
        values = {
            "model": str(folders[family]),
            "task": TASKS[task] | {"path": str(labelled_rows)},
            "method": method,
            "train": {"epochs": 2, "batch_size": 2, "learning_rate": 0.05, "precision": "fp32"},
        }
        if task == "language":
            values["task"] |= {"decoding": {"max_new_tokens": 4}}
        return run(make_config(fields=values), out=tmp_path / "run").folder

    return train


@pytest.fixture(scope="session")
def our_logits() -> Callable[..., Tensor]:
    """Return a function that gives a text's logits: of every token, or of the last if labels."""

    def logits(model: LanguageModel, ids: list[int], prefix: int = 0) -> Tensor:
        first = model.config.vocabulary_size
        tokens = torch.tensor([*range(first, first + prefix), *ids])
        hidden = model.hidden(batch_of(tokens))
        return model.logits(hidden)[-1 if model.num_labels else prefix :].detach()  # (T, V)

    return logits
