"""Runs on the tiny model, and how what they leave is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import TASK_SETTINGS

from tunewise.config import RunConfig, make_config
from tunewise.run import RunRecord, run
from tunewise.runs.folder import METRICS_FILE

Start = Callable[..., RunRecord]


@pytest.fixture
def config_of(model_folder: Path, rows: Path) -> Callable[..., RunConfig]:
    def make(*words: str, task: str = "classification") -> RunConfig:
        values = {
            "model": str(model_folder),
            "task": {"kind": task, "path": str(rows)} | TASK_SETTINGS.get(task, {}),
            "train": {"epochs": 2, "batch_size": 5, "learning_rate": 0.01, "precision": "fp32"},
        }
        return make_config(fields=values, overrides=words)

    return make


@pytest.fixture
def start(config_of: Callable[..., RunConfig], tmp_path: Path) -> Start:
    def begin(*words: str, task: str = "classification", out: str = "run") -> RunRecord:
        return run(config_of(*words, task=task), out=tmp_path / out)

    return begin


def strict_json(text: str) -> Any:
    """Return what JSON says, without the numbers that JSON does not have."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [strict_json(line) for line in path.read_text("utf-8").splitlines()]


def validations(record: RunRecord) -> list[dict[str, Any]]:
    return [line for line in lines_of(record.folder / METRICS_FILE) if "validation" in line]
