"""Folders of runs and studies that lie, lead elsewhere, or may not be written to."""

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunewise.config import RunConfig, make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, TunewiseError
from tunewise.files import write_whole
from tunewise.interop import export
from tunewise.judging import JudgeConfig, judge_run
from tunewise.models.folder import load_model
from tunewise.predict import load, predict_file
from tunewise.reports.report import write_report
from tunewise.run import run
from tunewise.runs.folder import (
    ADAPTER_FILE,
    CHECKPOINT_FOLDER,
    ERROR_FILE,
    LOCK_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    append_line,
    locked,
    read_error,
    read_lines,
    read_predictions,
    read_result,
)
from tunewise.runs.model import save_trained
from tunewise.runs.progress import Progress
from tunewise.runs.result import Evaluation
from tunewise.settings import validate
from tunewise.studies.runner import open_folder, run_study
from tunewise.studies.study import Study
from tunewise.studies.trials import search_file
from tunewise.training.loop import Step

Copy = Callable[[Path], Path]
MakeRun = Callable[[str], Path]
Tensors = dict[str, Tensor]

EVALUATION = Evaluation(number=1, epoch=1, validation={})


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 20)
    for place in ("tunewise.run.choose_device", "tunewise.predict.choose_device"):
        monkeypatch.setattr(place, lambda: torch.device("cpu"))


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(TunewiseError) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- adapters and results


def with_tensors(path: Path, change: Callable[[Tensors], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def first(tensors: Tensors) -> str:
    return min(tensors)


ADAPTERS: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "one is missing": (lambda t: t.pop(first(t)), "missing"),
    "one too many": (lambda t: t.update(extra=torch.zeros(1)), "'extra' is missing or unexpected"),
    "another shape": (lambda t: t.update({first(t): torch.zeros(3, 5)}), "shape [3, 5]"),
    "whole numbers": (lambda t: t.update({first(t): t[first(t)].long()}), "I64"),
    "double precision": (lambda t: t.update({first(t): t[first(t)].double()}), "F64"),
    "nothing": (lambda t: t.update({first(t): torch.zeros(0, 5)}), "[0, 5]"),
}


@pytest.mark.parametrize("what", ADAPTERS)
def test_an_adapter_that_is_not_of_its_run_is_refused(
    finished: MakeRun, copy: Copy, what: str
) -> None:
    folder = copy(finished("lora"))
    change, word = ADAPTERS[what]
    with_tensors(folder / ADAPTER_FILE, change)
    message = refusal(lambda: load(folder))
    assert str(ADAPTER_FILE) in message
    assert word in message


CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a task called as a folder above": lambda c: c["task"].update(name="../../elsewhere"),
    "a task called as a whole path": lambda c: c["task"].update(name="/tmp/elsewhere"),
    "a rank that is negative": lambda c: c["method"].update(rank=-1),
    "a method of no kind": lambda c: c["method"].update(kind=["lora"]),
    "a model that is elsewhere": lambda c: c.update(model="/nowhere/at/all"),
    "no labels": lambda c: c["task"].update(labels=None),
    "labels it was not trained on": lambda c: c["task"].update(
        labels={"a": "a", "b": "b", "c": "c"}
    ),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_run_s_own_configuration_is_not_believed(
    finished: MakeRun, copy: Copy, what: str
) -> None:
    folder = copy(finished("lora"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    CONFIGS[what](config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    refusal(lambda: load(folder).predict([{"text": "a good film"}]))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"a":' * 10_000, '{"name": "a\\ud800"}', "\xff"]
)
def test_results_that_are_none_are_refused_by_each_that_reads_them(
    finished: MakeRun, copy: Copy, content: str, tmp_path: Path
) -> None:
    folder = copy(finished("lora"))
    for name in (RESULT_FILE, ERROR_FILE):
        (folder / name).write_bytes(content.encode("latin-1"))
    (folder / METRICS_FILE).write_bytes(content.encode("latin-1") + b"\n")
    (folder / PREDICTIONS_FILE).write_bytes(content.encode("latin-1") + b"\n")
    for call in (
        lambda: read_result(folder),
        lambda: read_error(folder),
        lambda: read_lines(folder / METRICS_FILE),
        lambda: read_predictions(folder / PREDICTIONS_FILE),
        lambda: export(folder, "peft", tmp_path / "out"),
        lambda: judge_run(folder, validate(JudgeConfig, {"model": "none"}, "test")),
        lambda: run(make_config(folder / "config.yaml"), out=folder, resume=True),
    ):
        assert str(folder) in refusal(call)


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


Values = dict[str, Any]


def without(name: str) -> Callable[[Tensors, Values], Any]:
    def change(tensors: Tensors, values: Values) -> None:
        for one in [one for one in tensors if one.startswith(name)][:1]:
            del tensors[one]
        values.pop(name, None)

    return change


def narrower(tensors: Tensors, values: Values) -> None:
    name = next(name for name in tensors if name.startswith("weights."))
    tensors[name] = tensors[name][:, :1].repeat(1, 7).contiguous()


CHECKPOINTS: dict[str, Callable[[Tensors, Values], Any]] = {
    "no weights": without("weights."),
    "no state of chance": without("chance"),
    "no rows": without("rows"),
    "no best": without("best"),
    "no validation": without("validation"),
    "no seconds": without("evaluation_seconds"),
    "weights of another shape": narrower,
    "a short state of chance": lambda t, v: t.update(chance=t["chance"][:10].clone()),
    "an optimizer of more parameters": lambda t, v: t.update(
        {"optimizer.first.exp_avg": torch.zeros(2)}
    ),
    "a list in place of values": lambda t, v: v.update(best=[1]),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_a_whole_checkpoint_that_is_none_of_this_run_is_refused(
    stopped: Path, copy: Copy, what: str
) -> None:
    folder = copy(stopped)
    last = max((folder / CHECKPOINT_FOLDER).glob("*.safetensors"))
    with safe_open(last, "pt") as file:
        metadata = file.metadata()
    tensors, values = load_file(last), json.loads(metadata["values"])
    CHECKPOINTS[what](tensors, values)
    last.unlink()
    save_file(tensors, last, metadata | {"values": json.dumps(values)})
    rename_by_content(last)
    config = make_config(folder / "config.yaml")
    message = refusal(lambda: run(config, out=folder, resume=True))
    assert "not a checkpoint of this run" in message


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"number": "2"}, {"number": "two", "values": "{}"}, {"number": "2", "values": "{"}],
)
def test_a_checkpoint_without_its_values_is_refused(
    stopped: Path, copy: Copy, metadata: dict[str, str] | None
) -> None:
    folder = copy(stopped)
    last = max((folder / CHECKPOINT_FOLDER).glob("*.safetensors"))
    tensors = load_file(last)
    last.unlink()
    save_file(tensors, last, metadata)
    rename_by_content(last)
    config = make_config(folder / "config.yaml")
    assert "checkpoint" in refusal(lambda: run(config, out=folder, resume=True))


def test_a_checkpoint_that_is_no_safetensors_file_is_refused(stopped: Path, copy: Copy) -> None:
    folder = copy(stopped)
    last = max((folder / CHECKPOINT_FOLDER).glob("*.safetensors"))
    last.write_bytes(b"\x80\x04.")  # a pickle
    rename_by_content(last)
    config = make_config(folder / "config.yaml")
    assert "not a sound safetensors" in refusal(lambda: run(config, out=folder, resume=True))


def rename_by_content(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    path.rename(path.with_name(f"{path.stem.partition('-')[0]}-{digest}.safetensors"))


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


def one_run(folder: Path) -> Path:
    return min((folder / "runs").iterdir())


def shorter(folder: Path) -> None:
    path = one_run(folder) / PREDICTIONS_FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def untested(folder: Path) -> None:
    path = one_run(folder) / RESULT_FILE
    result = json.loads(path.read_text())
    del result["metrics"]["test"]
    path.write_text(json.dumps(result))


STUDIES: dict[str, Callable[[Path], Any]] = {
    "fewer predictions than examples": shorter,
    "a result without a test": untested,
    "no predictions": lambda folder: (one_run(folder) / PREDICTIONS_FILE).unlink(),
    "steps of no form": lambda folder: (one_run(folder) / METRICS_FILE).write_text("{}\n"),
    "a study that is none": lambda folder: (folder / "study.yaml").write_text("name: [a]"),
    "a study called as a folder above": lambda folder: (folder / "study.yaml").write_text(
        (folder / "study.yaml").read_text().replace("name: tiny", "name: ../tiny")
    ),
}


@pytest.mark.parametrize("what", STUDIES)
def test_a_report_of_a_study_that_lies_is_refused(study: Path, copy: Copy, what: str) -> None:
    folder = copy(study)
    STUDIES[what](folder)
    assert str(folder) in refusal(lambda: write_report(folder))


@pytest.mark.parametrize("place", ["../../elsewhere", "/etc", "..", "a/b", "", "a\0"])
def test_a_search_s_candidates_are_in_the_study_s_folder(
    study: Path, copy: Copy, place: str
) -> None:
    folder = copy(study)
    values = yaml.safe_load((folder / "study.yaml").read_text())
    values["search"] = {"space": {"seed": {"low": 1, "high": 9}}, "trials": 1}
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    (folder / "searches").mkdir()
    tried = [{"overrides": {"seed": 3}, "folder": place, "status": "complete"}]
    for cell in validate(Study, values, "test").cells():
        search_file(cell, folder).write_text(json.dumps(tried))
    assert "searches" in refusal(lambda: write_report(folder))


# --- what may not be written


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that has the system refuse to write into a folder, as it does no root."""

    def refuse(folder: Path) -> None:
        opened = io.open

        def guarded(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            inside = isinstance(file, (str, Path)) and Path(file).is_relative_to(folder)
            if inside and set(mode) & set("wax+"):
                raise OSError(30, "Read-only file system", str(file))
            return opened(file, mode, *args, **kwargs)

        monkeypatch.setattr(io, "open", guarded)
        monkeypatch.setattr("builtins.open", guarded)

    return refuse


def test_a_folder_that_may_only_be_read_is_told_in_one_line(
    finished: MakeRun,
    stopped: Path,
    study: Path,
    copy: Copy,
    read_only: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    folders = [copy(stopped), copy(study)]
    config = make_config(folders[0] / "config.yaml")
    done = finished("lora")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a good film"}\n')
    (tmp_path / "new").mkdir()
    read_only(tmp_path)
    for call in (
        lambda: run(config, out=folders[0], resume=True),
        lambda: run(config, out=tmp_path / "new"),
        lambda: run_study(validate(Study, yaml_of(folders[1]), "test"), folders[1], None, 1, print),
        lambda: write_report(folders[1]),
        lambda: predict_file(done, rows, tmp_path / "predictions.jsonl"),
        lambda: append_line(folders[0] / METRICS_FILE, EVALUATION),
        lambda: write_whole(folders[0] / "x", "x"),
    ):
        message = refusal(call)
        assert str(tmp_path) in message
        assert "Read-only file system" in message


def yaml_of(folder: Path) -> Any:
    return yaml.safe_load((folder / "study.yaml").read_text())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_that_cannot_be_written_are_told_in_one_line(
    finished: MakeRun, model_folder: Path, tmp_path: Path, method: str
) -> None:
    config = make_config(finished(method) / "config.yaml")
    model, tokenizer = load_model(model_folder), Tokenizer.load(model_folder)
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="cannot be written"):
            save_trained(model, config, folder, tokenizer)


def test_a_folder_below_a_file_cannot_be_made(
    finished: MakeRun, study: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    below = tmp_path / "file" / "below"
    config = make_config(finished("lora") / "config.yaml")
    for call in (
        lambda: run(config, out=below),
        lambda: export(finished("lora"), "peft", below),
        lambda: open_folder(below, resume=False),
        lambda: write_report(study, below / "report.html"),
    ):
        assert str(tmp_path / "file") in refusal(call)


def test_a_link_where_a_file_is_written_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt", "a.txt.part", LOCK_FILE):
        (folder / name).symlink_to(outside)
    write_whole(folder / "a.txt", "theirs")
    with locked(folder):
        pass
    assert outside.read_text() == "mine"
    assert (folder / "a.txt").read_text() == "theirs"
    assert not (folder / "a.txt").is_symlink()
    assert not os.path.lexists(folder / "a.txt.part")


def test_a_vanished_configuration_or_run_is_named(tmp_path: Path) -> None:
    for call in (
        lambda: make_config(tmp_path / "gone.yaml"),
        lambda: export(tmp_path / "gone", "peft", tmp_path / "out"),
        lambda: write_report(tmp_path / "gone"),
        lambda: load(tmp_path / "gone"),
    ):
        assert "gone" in refusal(call)
    with pytest.raises(ConfigError, match="no such file"):
        make_config(tmp_path / "gone.yaml")
