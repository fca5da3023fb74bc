"""Runs of tiny models of every family, with weights large enough for every layer to matter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import batch_of
from torch import Tensor

from tunewise.config import make_config
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import Tokenizer
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model, save_model
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.gpt_neo import GPTNeoConfig
from tunewise.models.language_model import initialise
from tunewise.run import run

SHAPE = {
    "vocabulary_size": 257,
    "context_length": 48,
    "model_dim": 16,
    "num_heads": 2,
    "num_layers": 3,
    "mlp_dim": 64,
}
SHAPES = {
    "gpt2": GPT2Config(**SHAPE),
    "gpt_neo": GPTNeoConfig(**SHAPE, window=4, attention=("global", "local", "global")),
}
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
    paths = {}
    for family, shape in SHAPES.items():
        generator = torch.Generator().manual_seed(7)
        model = build_model(shape, "cpu")
        initialise(model, generator)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
        paths[family] = tmp_path_factory.mktemp(family)
        save_model(model, paths[family], tokenizer.end_of_text)
        tokenizer.save(paths[family])
    return paths


@pytest.fixture(scope="session")
def labelled_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six rows per split, of three labels."""
    folder = tmp_path_factory.mktemp("rows")
    for split in SPLITS:
        rows = [{"text": f"{split} {n}", "label": ("bad", "fair", "good")[n % 3]} for n in range(6)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


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
