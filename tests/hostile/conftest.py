"""Adapters, runs and a profile of Hypothesis for the tests of broken and hostile input."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from torch import Tensor

from tunewise.config import RunConfig
from tunewise.errors import TunewiseError
from tunewise.interop import export
from tunewise.run import run
from tunewise.runs.progress import Progress
from tunewise.runs.result import Evaluation
from tunewise.settings import validate
from tunewise.studies.runner import open_folder, run_study
from tunewise.studies.study import Study
from tunewise.training.loop import Step

# What it finds out about Unicode goes where it does no harm.
set_hypothesis_home_dir(Path(gettempdir()) / "hypothesis-of-tunewise")
# The same examples each time, none kept on disk, and no failure because the machine is busy.
settings.register_profile(
    "tunewise",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tunewise")

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, rows: Path) -> MakeRun:
    """Return a function that trains with a method and returns the run's folder."""
    folders: dict[str, Path] = {}

    def make(method: str) -> Path:
        if method not in folders:
            config = {
                "model": str(model_folder),
                "task": {"kind": "classification", "path": str(rows)},
                "method": {"kind": method, **({"rank": 2} if method == "lora" else {})},
                "train": {"epochs": 1, "batch_size": 6, "precision": "fp32"},
            }
            folder = tmp_path_factory.mktemp("run") / method
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 20)
                patch.setattr("tunewise.run.choose_device", lambda: torch.device("cpu"))
                run(validate(RunConfig, config, "test"), out=folder)
            folders[method] = folder
        return folders[method]

    return make


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, finished: MakeRun) -> MakeRun:
    """Return a function that trains with a method and returns the adapter as PEFT keeps it."""
    folders: dict[str, Path] = {}

    def make(method: str) -> Path:
        if method not in folders:
            folders[method] = tmp_path_factory.mktemp("adapter") / method
            export(finished(method), "peft", folders[method])
        return folders[method]

    return make


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that copies a folder to where it may be broken."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / folder.name))


Copy = Callable[[Path], Path]
Tensors = dict[str, Tensor]

EVALUATION = Evaluation(number=1, epoch=1, validation={})


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(TunewiseError) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- checkpoints


class Stopped(Exception):
    """Ends a run."""


class StopAtTwo(Progress):
    def step(self, step: Step) -> None:
        if step.number == 3:
            raise Stopped


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, rows: Path) -> Path:
    """A run stopped after two updates, with a checkpoint of each."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    config = {
        "model": str(model_folder),
        "task": {"kind": "classification", "path": str(rows)},
        "method": {"kind": "lora", "rank": 2},
        "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "checkpoint_every": 1},
    }
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("tunewise.run.choose_device", lambda: torch.device("cpu"))
        run(validate(RunConfig, config, "test"), out=folder, progress=StopAtTwo())
    return folder


# --- studies


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, rows: Path) -> Path:
    """A study of two cells."""
    folder = tmp_path_factory.mktemp("study")
    base = {
        "model": str(model_folder),
        "task": {"kind": "classification", "path": str(rows)},
        "train": {"epochs": 1, "batch_size": 6, "precision": "fp32"},
    }
    values = {"name": "tiny", "base": base, "vary": {"method": ["full", "last_layer"]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 20)
        patch.setattr("tunewise.run.choose_device", lambda: torch.device("cpu"))
        open_folder(folder, resume=False)
        run_study(validate(Study, values, "test"), folder, None, 1, lambda event: None)
    return folder


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and predictions on the processor, with few resamples."""
    monkeypatch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 20)
    for place in ("tunewise.run.choose_device", "tunewise.predict.choose_device"):
        monkeypatch.setattr(place, lambda: torch.device("cpu"))
