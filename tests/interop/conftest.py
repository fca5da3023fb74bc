"""Runs of tiny models of every family, with weights large enough for every layer to matter."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import batch_of, save_tiny, write_splits
from torch import Tensor

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.models import FAMILIES, LanguageModel
from tunewise.run import run

from .in_peft import Adapters, Fields, Tensors, as_it_is, written_by_peft

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


@pytest.fixture(scope="session")
def adapters(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    """Return a function that gives the folder of an adapter of GPT-2, which is written once."""
    configs = {
        "lora": lambda: peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"]),
        "labels": lambda: peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["c_attn"]),
        "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    written: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in written:
            written[kind] = tmp_path_factory.mktemp(kind)
            num_labels = 3 if kind == "labels" else None
            written_by_peft(folders["gpt2"], written[kind], configs[kind](), num_labels)
        return written[kind]

    return folder_of


@pytest.fixture
def changed(adapters: Adapters, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies an adapter, with other fields and tensors."""

    def change(kind: str, fields: Fields, tensors: Callable[[Tensors], Tensors] = as_it_is) -> Path:
        out = shutil.copytree(adapters(kind), tmp_path / "changed")
        config, weights = out / "adapter_config.json", out / "adapter_model.safetensors"
        config.write_text(json.dumps(json.loads(config.read_text()) | fields))
        kept = tensors(load_file(weights))
        save_file({name: tensor.clone().contiguous() for name, tensor in kept.items()}, weights)
        return out

    return change
