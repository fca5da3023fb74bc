"""Trackers show what a run writes down, all of it and once, and change nothing."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tunewise.config import RunConfig, make_config
from tunewise.errors import ConfigError
from tunewise.run import RunRecord, run
from tunewise.runs.folder import ADAPTER_FILE, METRICS_FILE, read_lines
from tunewise.runs.progress import Progress
from tunewise.runs.result import Evaluation
from tunewise.studies.overrides import folder_name
from tunewise.training.loop import Step

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

Configured = Callable[..., RunConfig]
Values = dict[str, dict[int, float]]
"""By name and update."""
OF_AN_UPDATE = ("loss", "learning_rate", "grad_norm")
OFFERED = ["tensorboard", "wandb", "mlflow"]


@pytest.fixture
def configured(model_folder: Path, rows: Path) -> Configured:
    def make(*trackers: str) -> RunConfig:
        train = {"epochs": 2, "batch_size": 5, "precision": "fp32", "checkpoint_every": 2}
        values = {
            "model": str(model_folder),
            "task": {"kind": "classification", "path": str(rows)},
            "train": {**train, "trackers": trackers},
        }
        return make_config(fields=values)

    return make


def written(record: RunRecord) -> Values:
    """Return what a run's own files say, by the names that trackers show."""
    found: Values = {}
    lines = read_lines(record.folder / METRICS_FILE)
    shown: list[tuple[str, int, dict[str, float]]] = [
        ("validation", line.number, line.validation)
        if isinstance(line, Evaluation)
        else ("train", line.number, {name: getattr(line, name) for name in OF_AN_UPDATE})
        for line in lines
    ]
    shown.append(("test", len(record.steps), record.result.metrics["test"]))
    for group, number, values in shown:
        for name, value in values.items():
            found.setdefault(f"{group}/{name}", {})[number] = value
    return found


def events(folder: Path) -> Values:
    """Return what TensorBoard reads, each event of an update, also one that is told twice."""
    accumulator = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0})
    accumulator.Reload()
    found: Values = {}
    for tag in accumulator.Tags()["scalars"]:
        scalars = accumulator.Scalars(tag)
        found[tag] = {event.step: event.value for event in scalars}
        assert len(found[tag]) == len(scalars), f"{tag}: an update is told twice"
    return found


def same(found: Values, expected: Values) -> bool:
    return found == {  # events hold 32 bits
        name: {number: pytest.approx(value, rel=1e-6) for number, value in values.items()}
        for name, values in expected.items()
    }


def test_tensorboard_shows_the_updates_the_metrics_and_the_configuration(
    configured: Configured, tmp_path: Path
) -> None:
    record = run(configured("tensorboard"), out=tmp_path / "run")
    assert len(record.steps) == 6
    assert same(events(record.folder), written(record))
    (told,) = (record.folder / "tensorboard").glob("*/hparams.yml")
    fields = yaml.safe_load(told.read_text("utf-8"))
    assert fields["task.labels"] == '{"bad": "bad", "good": "good"}'  # names may be any text
    assert fields["method.rank"] == record.result.config.method.model_dump()["rank"]
    assert fields["train.optimizer"] == "adamw"
    assert fields["train.batch_size"] == 5 and fields["seed"] == 0


class StopAt(Progress):
    def step(self, step: Step) -> None:
        if step.number == 5:
            raise InterruptedError


def test_a_run_that_goes_on_is_shown_whole_and_no_update_twice(
    configured: Configured, tmp_path: Path
) -> None:
    with pytest.raises(InterruptedError):
        run(configured("tensorboard"), out=tmp_path / "run", progress=StopAt())
    assert max(events(tmp_path / "run")["train/loss"]) < 6
    record = run(configured("tensorboard"), out=tmp_path / "run", resume=True)
    assert len(record.steps) == 6
    assert same(events(record.folder), written(record))


class Recorder:
    """Stands in for the modules wandb and mlflow, and keeps what they are told."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.values: Values = {}
        self.is_finished = False

    def keep(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.values.setdefault(name, {})[step] = value

    def finish(self) -> None:
        self.is_finished = True

    def wandb(self) -> dict[str, Any]:
        def init(**given: Any) -> Any:
            self.started = given
            return SimpleNamespace(log=self.keep, finish=self.finish)

        def update(values: dict[str, Any], allow_val_change: bool) -> None:
            self.config.update(values)

        return {"init": init, "config": SimpleNamespace(update=update)}

    def mlflow(self) -> dict[str, Any]:
        def start_run(**given: Any) -> None:
            self.started |= {"name": given["run_name"]}

        def create_experiment(name: str, **_: Any) -> str:
            self.started["project"] = name
            return "1"

        limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=20)
        return {
            "search_experiments": lambda filter_string: [],
            "create_experiment": create_experiment,
            "start_run": start_run,
            "log_params": self.config.update,
            "log_metrics": self.keep,
            "end_run": self.finish,
            "utils": SimpleNamespace(validation=limits),
        }


@pytest.fixture(params=["wandb", "mlflow"])
def recorder(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Recorder]]:
    recorder = Recorder()
    module = ModuleType(request.param)
    module.__spec__ = ModuleSpec(request.param, None)
    vars(module).update(getattr(recorder, request.param)())
    monkeypatch.setitem(sys.modules, request.param, module)
    yield request.param, recorder


def test_wandb_and_mlflow_are_told_what_the_run_writes_down(
    configured: Configured, tmp_path: Path, recorder: tuple[str, Recorder]
) -> None:
    name, told = recorder
    record = run(configured(name), out=tmp_path / "run")
    assert told.values == written(record)
    assert told.started["project"] == "tunewise" and told.started["name"] == "run"
    assert told.config["train.batch_size"] == 5
    assert len(told.config) > 20  # all of it, though MLflow takes so many at once
    assert told.is_finished


def test_a_tracker_that_fails_ends_no_training(
    configured: Configured,
    tmp_path: Path,
    recorder: tuple[str, Recorder],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name, told = recorder
    config = configured(name, "tensorboard")
    keep = told.keep

    def fail(values: dict[str, float], step: int) -> None:
        if step == 3:
            raise OSError("no route to host")
        keep(values, step)

    monkeypatch.setattr(told, "keep", fail)
    vars(sys.modules[name]).update(getattr(told, name)())
    record = run(config, out=tmp_path / "run")
    assert told.values["train/loss"].keys() == {1, 2}
    assert same(events(record.folder), written(record))
    assert [entry.message for entry in caplog.records if name in entry.message] == [
        f"nothing more is sent to {name}: no route to host"
    ]


def test_a_tracker_that_cannot_be_begun_is_an_error_before_training(
    configured: Configured,
    tmp_path: Path,
    recorder: tuple[str, Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("no key;\nlog in")

    name, _ = recorder
    for begin in ("init", "start_run"):
        monkeypatch.setattr(sys.modules[name], begin, refuse, raising=False)
    with pytest.raises(ConfigError, match=f"{name} cannot be started: no key; log in"):
        run(configured(name), out=tmp_path / "run")
    assert not read_lines(tmp_path / "run" / METRICS_FILE)


@pytest.mark.parametrize("name", OFFERED)
@pytest.mark.parametrize("missing", ["accelerate", "itself"])
def test_a_missing_library_is_one_line_that_says_what_to_install(
    configured: Configured, name: str, missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, name if missing == "itself" else missing, None)
    with pytest.raises(ConfigError) as caught:
        run(configured(name), out=tmp_path / "run")
    install = "pip install 'tunewise[trackers]'" + f" {name}" * (name != "tensorboard")
    assert str(caught.value) == f"train.trackers: {name} needs an extra: {install}"
    assert not (tmp_path / "run").exists()


def test_trackers_change_no_result(configured: Configured, tmp_path: Path) -> None:
    quiet = run(configured(), out=tmp_path / "quiet")
    shown = run(configured("tensorboard"), out=tmp_path / "shown")
    assert written(quiet) == written(shown)
    weights = [load_file(record.folder / ADAPTER_FILE) for record in (quiet, shown)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_trackers_are_no_part_of_what_a_run_is(configured: Configured, tmp_path: Path) -> None:
    assert folder_name("cell", configured()) == folder_name("cell", configured("wandb"))
    with pytest.raises(InterruptedError):
        run(configured(), out=tmp_path / "run", progress=StopAt())
    record = run(configured("tensorboard"), out=tmp_path / "run", resume=True)
    assert same(events(record.folder), written(record))


def test_without_trackers_nothing_of_theirs_is_loaded(
    model_folder: Path, rows: Path, tmp_path: Path
) -> None:
    words = [f"model={model_folder}", "task.kind=classification", f"task.path={rows}"]
    code = f"""
import sys
from pathlib import Path
from tunewise.config import make_config
from tunewise.run import run
run(make_config(overrides={[*words, "train.epochs=1"]}), out=Path({str(tmp_path / "run")!r}))
assert not {{"accelerate", *{OFFERED}}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
