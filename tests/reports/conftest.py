"""Studies of a tiny model, run for real, whose reports are looked at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewise.settings import validate
from tunewise.studies.runner import open_folder, run_study
from tunewise.studies.study import Study

HOSTILE = "<script>window.broken = 1</script>"

StudyFolder = Callable[..., Path]


@pytest.fixture(scope="session")
def study_folder(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Path, rows: Path
) -> StudyFolder:
    """Return a function that runs a study and returns its folder."""

    def run(**fields: Any) -> Path:
        base = {
            "model": str(model_folder),
            "task": {"kind": "classification", "path": str(rows)},
            "train": {"epochs": 2, "batch_size": 5, "learning_rate": 0.01, "precision": "fp32"},
        }
        study = validate(Study, {"name": "tiny", "base": base, **fields}, "study")
        folder = tmp_path_factory.mktemp("study")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 20)
            patch.setattr("tunewise.run.choose_device", lambda: torch.device("cpu"))
            open_folder(folder, resume=False)
            run_study(study, folder, None, 1, lambda event: None)
        return folder

    return run


@pytest.fixture(scope="session")
def rich(
    study_folder: StudyFolder,
    model_folder: Path,
    rows: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A study with everything that a report can show, and names that mean harm."""
    hostile = tmp_path_factory.mktemp("hostile")
    for path in rows.iterdir():
        text = path.read_text().replace('"good"', f'"{HOSTILE}"')
        (hostile / path.name).write_text(text)
    return study_folder(
        name="rich",
        description=f"Which is best? {HOSTILE}",
        base={
            "model": str(model_folder),
            "task": {"kind": "classification", "path": str(hostile)},
            "train": {"batch_size": 5, "precision": "fp32"},
        },
        runs=[
            {"name": HOSTILE, "method": "full"},
            {"name": "top", "method": "last_layer"},
            {"name": "broken", "method": {"kind": "lora", "blocks": "last-9"}},
        ],
        vary={"train.epochs": [1, 2]},
        tune={"train.learning_rate": [0.001, 0.03]},
        seeds=2,
        source=f"a paper {HOSTILE}",
        published={"top, epochs=1": {"accuracy": 0.5, "peak_gb": 3.0}},
    )
