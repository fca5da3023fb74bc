"""A run can be repeated, number for number."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tunewise.config import RunConfig, make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.methods import METHODS
from tunewise.run import RunRecord, run
from tunewise.runs.folder import CONFIG_FILE
from tunewise.runs.model import adapted_model, load_trained
from tunewise.tasks import TASKS
from tunewise.training.loop import Step

from .conftest import Start

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]


def without_seconds(steps: list[Step]) -> list[dict[str, Any]]:
    return [{name: v for name, v in asdict(step).items() if name != "seconds"} for step in steps]


# A run can be repeated.


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        *((kind, "classification") for kind in METHODS),
        *(("lora", task) for task in TASKS if task != "classification"),
    ],
)
def test_the_configuration_that_is_left_repeats_the_run_number_for_number(
    start: Start, tmp_path: Path, kind: str, task: str
) -> None:
    record = start(f"method={kind}", "train.dropout=0.1", task=task)
    torch.rand(3)  # whatever else happened in this process
    config = make_config(record.folder / CONFIG_FILE)
    assert config == record.result.config
    again = run(config, out=tmp_path / "again")
    assert without_seconds(again.steps) == without_seconds(record.steps)
    assert again.predictions == record.predictions
    assert again.result.metrics == record.result.metrics


def test_another_seed_gives_another_run(start: Start) -> None:
    one, other = start("seed=1", out="one"), start("seed=2", out="other")
    assert without_seconds(one.steps) != without_seconds(other.steps)


def test_the_configuration_that_is_left_leaves_nothing_open(start: Start) -> None:
    values = yaml.safe_load((start("train.precision=auto").folder / CONFIG_FILE).read_text())
    assert values["task"]["labels"] == {"bad": "bad", "good": "good"}
    assert values["train"]["precision"] in ("fp32", "bf16")
    assert values["train"]["learning_rate"] == 0.01


def test_a_run_with_a_model_of_this_folder_can_be_used_from_another(
    config_of: Callable[..., RunConfig],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(model_folder.parent)
    run(config_of("model=tiny"), out=tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    load_trained(tmp_path / "run")


def test_a_fresh_label_layer_is_the_same_under_every_method(
    config_of: Callable[..., RunConfig], model_folder: Path, tokenizer: Tokenizer
) -> None:
    heads = []
    for kind in METHODS:
        config = config_of(f"method={kind}", "task.labels={bad: bad, good: good}")
        model = adapted_model(config, model_folder, tokenizer)
        heads.append(model.get_parameter("head.weight"))
    assert all(torch.equal(head, heads[0]) for head in heads)


# The embedded default.


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    out = tmp_path_factory.mktemp("default") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 200)
        return run(make_config(overrides=["train.epochs=1"]), out=out)


def test_the_embedded_default_beats_the_majority_answer(default_run: RunRecord) -> None:
    answers = [prediction.expected for prediction in default_run.predictions]
    majority = max(answers.count(label) for label in set(answers)) / len(answers)
    low, _ = default_run.result.intervals["test"]["accuracy"]
    assert low > majority


def test_the_embedded_default_trains_few_parameters_of_a_small_model(
    default_run: RunRecord,
) -> None:
    assert default_run.result.parameters.total < 8_000_000
    assert default_run.result.parameters.percent < 5
    assert math.isfinite(default_run.result.metrics["test"]["loss"])
