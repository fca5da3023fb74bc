"""Adapters, configurations and results that lie are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tunewise.config import make_config
from tunewise.errors import ConfigError
from tunewise.interop import export
from tunewise.judging import JudgeConfig, judge_run
from tunewise.predict import load
from tunewise.reports.report import write_report
from tunewise.run import run
from tunewise.runs.folder import (
    ADAPTER_FILE,
    ERROR_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    read_error,
    read_lines,
    read_predictions,
    read_result,
)
from tunewise.settings import validate

from .conftest import Copy, MakeRun, Tensors, refusal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_the_cpu")]


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
