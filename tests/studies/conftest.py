"""A study on a tiny model, and a way to run it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunewise.settings import validate
from tunewise.studies.events import Event
from tunewise.studies.runner import open_folder, run_study
from tunewise.studies.study import Study

MakeStudy = Callable[..., Study]
RunStudy = Callable[..., tuple[list[str], list[Event]]]


@pytest.fixture(autouse=True)
def quick_studies(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every run and comparison of these tests a quick one."""
    monkeypatch.setattr("tunewise.studies.statistics.NUM_RESAMPLES", 50)


@pytest.fixture
def make_study(model_folder: Path, rows: Path) -> MakeStudy:
    """Return a function that makes a study of the tiny model."""

    def make(**fields: Any) -> Study:
        base = {
            "model": str(model_folder),
            "task": {"kind": "classification", "path": str(rows)},
            "train": {"epochs": 2, "batch_size": 5, "learning_rate": 0.01, "precision": "fp32"},
        }
        return validate(Study, {"name": "tiny", "base": base, **fields}, "study")

    return make


@pytest.fixture
def go(tmp_path: Path) -> RunStudy:
    """Return a function that runs or resumes a study in one folder; it gives failures, events."""

    def run(study: Study, jobs: int = 1) -> tuple[list[str], list[Event]]:
        events: list[Event] = []
        open_folder(tmp_path / "study", resume=True)
        return run_study(study, tmp_path / "study", None, jobs, events.append), events

    return run
