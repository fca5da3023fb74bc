"""A run on the tiny model that can be stopped, and all that it leaves."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tunewise.config import RunConfig, make_config
from tunewise.run import RunRecord
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    read_lines,
)
from tunewise.runs.progress import Progress
from tunewise.training.loop import Step

Configured = Callable[..., RunConfig]


class Stopped(Exception):
    """What is raised in a test where a process would be killed."""


class StopAt(Progress):
    """Stops a run at an update, without a word."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def step(self, step: Step) -> None:
        if step.number == self._number:
            raise Stopped


@pytest.fixture
def configured(model_folder: Path, rows: Path) -> Configured:
    def make(*words: str) -> RunConfig:
        values = {
            "model": str(model_folder),
            "task": {"kind": "classification", "path": str(rows)},
            "train": {
                "epochs": 3,
                "batch_size": 5,
                "learning_rate": 0.01,
                "precision": "fp32",
                "checkpoint_every": 2,
            },
        }
        return make_config(fields=values, overrides=words)

    return make


def left(record: RunRecord) -> dict[str, Any]:
    """Return all that a run left, without what a clock or the machine decides."""
    values = json.loads((record.folder / RESULT_FILE).read_text())
    for name in ("time", "memory", "estimate", "intervals"):
        del values[name]  # other processes draw as many resamples as a user's
    del values["tokens"]["per_second"]
    lines = read_lines(record.folder / METRICS_FILE)
    steps = [replace(line, seconds=0.0) for line in lines if isinstance(line, Step)]
    found = {"result": values, "lines": [line for line in lines if not isinstance(line, Step)]}
    found["steps"] = [{**asdict(step), "loss": str(step.loss)} for step in steps]
    for path in sorted(record.folder.rglob("*.safetensors")):
        found[str(path.relative_to(record.folder))] = path.read_bytes()
    return found | {"answers": (record.folder / PREDICTIONS_FILE).read_text()}


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in (folder / CHECKPOINT_FOLDER).glob("*")}
