"""A model whose outputs are not finite is never the best, whatever its labels happen to be."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TASK_SETTINGS, write_splits

from tunewise import run as run_file
from tunewise.config import RunConfig, make_config
from tunewise.errors import ConfigError, TrainingError
from tunewise.metrics import METRICS
from tunewise.models import LanguageModel
from tunewise.predict import load
from tunewise.run import run
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    read_lines,
    read_result,
)
from tunewise.runs.progress import Progress
from tunewise.runs.result import Evaluation
from tunewise.tasks import TASKS
from tunewise.training import loop
from tunewise.training.loop import Step

from .conftest import Configured

pytestmark = pytest.mark.usefixtures("quick")

ConfigOf = Callable[..., RunConfig]


@pytest.fixture
def config_of(model_folder: Path, rows: Path) -> ConfigOf:
    """Return a function that configures three epochs of three updates of any task."""

    def make(task: str, *words: str, folder: Path = rows) -> RunConfig:
        values = {
            "model": str(model_folder),
            "task": {"kind": task, "path": str(folder)} | TASK_SETTINGS.get(task, {}),
            "method": "full",
            "train": {"epochs": 3, "batch_size": 5, "learning_rate": 0.01, "precision": "fp32"},
        }
        return make_config(fields=values, overrides=words)

    return make


@torch.no_grad()
def break_model(model: LanguageModel, value: float = math.nan) -> None:
    model.get_parameter("final_norm.weight").fill_(value)


def broken_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Spoil the model's weights with an update, as one of far too high a rate does."""
    plain = run_file.train

    def train(model: LanguageModel, *arguments: Any) -> Iterator[Step]:
        for step in plain(model, *arguments):
            if step.number == number:
                break_model(model)
            yield step

    monkeypatch.setattr(run_file, "train", train)


def strict_json(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def all_json_of(folder: Path) -> int:
    """Read every JSON file of a folder by the standard; return how many there are."""
    files = [*folder.rglob("*.json"), *folder.rglob("*.jsonl")]
    for path in files:
        text = path.read_text("utf-8")
        for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
            strict_json(part)
    return len(files)


def metrics_of(kind: str) -> list[str]:
    """Return a metric of each part of a prediction that a kind of task has."""
    answers = TASKS[kind](**TASK_SETTINGS.get(kind, {})).answer_kind
    return list({m.of: name for name, m in METRICS.items() if answers.suits(m)}.values())


EVERY_METRIC = [(task, metric) for task in TASKS for metric in metrics_of(task)]


@pytest.mark.parametrize(
    ("number", "advice"), [(1, "try another model"), (2, "try a lower train.")]
)
def test_a_rate_is_not_blamed_for_what_the_first_update_meets(
    number: int,
    advice: str,
    config_of: ConfigOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    norms = iter([1.0] * (number - 1) + [math.inf])
    monkeypatch.setattr(loop, "clip_grad_norm_", lambda *_: torch.tensor(next(norms)))
    with pytest.raises(TrainingError, match=f"update {number}: .*; {advice}"):
        run(config_of("classification"), out=tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"the run has not finished; tunewise run --out .* goes on"
    ):
        load(tmp_path / "run")


@pytest.mark.parametrize(("task", "metric"), EVERY_METRIC)
def test_an_evaluation_that_is_not_finite_ends_the_run(
    task: str, metric: str, config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_after(monkeypatch, 6)
    config = config_of(task, f"task.metrics=[{metric}]", "train.checkpoint_every=3")
    with pytest.raises(TrainingError) as caught:
        run(config, out=tmp_path / "run")
    message = str(caught.value)
    assert message.startswith("validation after update 6: the model's outputs are not finite for ")
    assert "12 of 12 rows (validation.jsonl:1, " in message
    assert message.count("validation.jsonl:") == 5 and "and 7 more" in message
    rate = run_file.read_steps(tmp_path / "run")[5].learning_rate
    assert f"at learning rate {rate:g}; try a lower train.learning_rate" in message
    assert "the last checkpoint is of update 3" in message
    assert str(tmp_path / "run" / CHECKPOINT_FOLDER) in message
    assert not (tmp_path / "run" / RESULT_FILE).exists()
    assert all_json_of(tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "value"),
    [
        ("classification", math.nan),
        ("classification", math.inf),
        ("classification", 3e38),
        ("language_modeling", math.nan),
        ("generation", math.nan),
    ],
)
def test_a_base_model_whose_outputs_are_not_finite_is_refused_before_any_update(
    task: str,
    value: float,
    config_of: ConfigOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = run_file._make_model

    def make(*arguments: Any) -> LanguageModel:
        model = plain(*arguments)
        break_model(model, value)
        return model

    monkeypatch.setattr(run_file, "_make_model", make)
    config = config_of(task, "train.epochs=0", "train.on_nan=skip")
    with pytest.raises(TrainingError, match=r"validation before any update: .*base model"):
        run(config, out=tmp_path / "run")


@pytest.fixture
def rows_with_a_rare_letter(tmp_path: Path) -> Path:
    """Rows of which one, in the test split, has a letter that no other has."""

    def rows_of(split: str) -> list[dict[str, str]]:
        texts = [f"{split} {number}" for number in range(8)]
        if split == "test":
            texts[5] += "~"
        return [
            {"text": text, "label": "good" if number % 4 else "bad", "instruction": text}
            | {"output": " so"}
            for number, text in enumerate(texts)
        ]

    return write_splits(tmp_path / "rows", rows_of)


def test_a_test_that_is_not_finite_ends_the_run_and_names_its_row(
    config_of: ConfigOf,
    rows_with_a_rare_letter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = run_file._make_model

    def make(prepared: Any) -> LanguageModel:
        model = plain(prepared)
        with torch.no_grad():
            (tilde,) = prepared.tokenizer.tokenize(["~"])
            model.get_parameter("token_embedding.weight")[tilde] = math.nan
        return model

    monkeypatch.setattr(run_file, "_make_model", make)
    config = config_of("classification", "method=lora", folder=rows_with_a_rare_letter)
    with pytest.raises(TrainingError, match=r"^test with the state after update \d+: ") as caught:
        run(config, out=tmp_path / "run")
    assert "for 1 of 8 rows (test.jsonl:6); try" in str(caught.value)
    assert not (tmp_path / "run" / RESULT_FILE).exists()


def test_with_skip_the_best_state_is_one_before_and_all_files_are_json(
    configured: Configured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken_after(monkeypatch, 5)
    shown: list[bool] = []

    class Watched(Progress):
        def evaluated(self, step: Step, values: Any, is_best: bool) -> None:
            shown.append(is_best)

    config = configured("train.on_nan=skip", "method=full", "train.checkpoint_every=1")
    record = run(config, out=tmp_path / "run", progress=Watched())
    assert record.result.best.step == 3
    assert shown == [True, False, False]
    assert any(text.startswith("validation after update 6: ") for text in caplog.messages)
    assert all(map(math.isfinite, record.result.metrics["test"].values()))
    found = [line for line in read_lines(record.folder / METRICS_FILE) if type(line) is Evaluation]
    assert [math.isnan(line.validation["accuracy"]) for line in found] == [False, True, True]
    assert all_json_of(record.folder) >= 3


def test_with_skip_a_run_without_a_finite_evaluation_is_refused(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_after(monkeypatch, 1)
    with pytest.raises(TrainingError, match="no evaluation had a finite accuracy"):
        run(configured("train.on_nan=skip", "method=full"), out=tmp_path / "run")


def test_a_metric_that_is_undefined_is_no_value_and_is_null_in_json(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([1.0, 0.5, math.nan, 0.4])  # a check, and three evaluations
    undefined = replace(METRICS["f1"], value=lambda _: next(calls, math.nan))
    monkeypatch.setitem(METRICS, "f1", undefined)
    record = run(configured("task.metrics=[f1, loss]"), out=tmp_path / "run")
    assert record.result.best.step == 3
    assert record.result.best.value == 0.5
    written = strict_json((record.folder / RESULT_FILE).read_text())
    assert written["metrics"]["test"]["f1"] is None
    assert written["intervals"]["test"]["f1"] == [None, None]
    again = read_result(record.folder)
    assert again is not None and math.isnan(again.metrics["test"]["f1"])
    assert again.is_finite


def test_a_result_with_nan_of_an_earlier_version_is_read(
    configured: Configured, tmp_path: Path
) -> None:
    folder = run(configured(), out=tmp_path / "run").folder
    result = json.loads((folder / RESULT_FILE).read_text())
    result["metrics"]["test"]["loss"] = math.nan
    result["intervals"]["test"]["loss"] = [math.nan, math.inf]
    (folder / RESULT_FILE).write_text(json.dumps(result))
    assert "NaN" in (folder / RESULT_FILE).read_text()
    found = read_result(folder)
    assert found is not None and math.isnan(found.metrics["test"]["loss"])
    assert not found.is_finite
    assert (folder / PREDICTIONS_FILE).is_file()
