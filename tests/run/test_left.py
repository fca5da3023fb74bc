"""A run leaves everything that is needed to believe it, to repeat it and to use it."""

from dataclasses import asdict, fields

import pytest

from tunewise.data.rows import SPLITS
from tunewise.metrics import METRICS, Prediction
from tunewise.runs.folder import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    read_lines,
    read_predictions,
    read_result,
)
from tunewise.runs.result import Evaluation
from tunewise.tasks import TASKS
from tunewise.training.loop import Step

from .conftest import Start, lines_of, strict_json, validations

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(("method", "left"), [("lora", "adapter"), ("full", "model")])
def test_a_run_leaves_its_files_and_no_others(start: Start, method: str, left: str) -> None:
    folder = start(f"method={method}").folder
    names = {"config.yaml", "origin.json", "metrics.jsonl", "predictions.jsonl", "result.json"}
    assert {path.name for path in folder.iterdir()} == names | {left}


def test_the_result_has_exactly_the_fields_that_are_promised(start: Start) -> None:
    result = strict_json((start().folder / "result.json").read_text("utf-8"))
    expected = {
        "name": None,
        "status": None,
        "config": {"model", "task", "method", "from", "train", "seed"},
        "parameters": {"total", "trainable", "percent"},
        "data": set(SPLITS),
        "metrics": {"validation", "test"},
        "intervals": {"test"},
        "tables": {"per_class", "confusion"},
        "best": {"epoch", "step", "metric", "value"},
        "time": {"train_seconds", "frozen_seconds", "epoch_seconds", "evaluation_seconds"},
        "memory": {"peak_bytes", "device"},
        "estimate": {
            "peak_bytes",
            "epoch_seconds",
            "frozen_seconds",
            "evaluation_seconds",
            "seconds",
        },
        "tokens": {"trained", "per_second"},
        "updates_left_out": None,
        "environment": {"python", "torch", "tunewise", "device", "precision", "seed"},
    }
    assert result.keys() == expected.keys()
    for name, keys in expected.items():
        assert keys is None or result[name].keys() == keys, name
    assert result["status"] == "finished"
    assert result["name"] == "tiny-custom-lora"
    for split in ("validation", "test"):
        assert result["metrics"][split].keys() == {"accuracy", "f1", "loss"}
    assert result["intervals"]["test"].keys() == {"accuracy", "f1", "loss"}


def test_a_result_of_an_earlier_version_is_read(start: Start) -> None:
    record = start()
    path = record.folder / RESULT_FILE
    text = path.read_text("utf-8")
    for new, old in (("frozen_seconds", "prefix_seconds"), ("frozen_cache", "prefix_cache")):
        assert f'"{new}"' in text
        text = text.replace(f'"{new}"', f'"{old}"')
    path.write_text(text)
    assert read_result(record.folder) == record.result


def test_the_numbers_of_a_result_agree_with_each_other(start: Start) -> None:
    record = start("train.epochs=3")
    result, steps = record.result, record.steps
    counts = result.parameters
    assert counts.percent == pytest.approx(100 * counts.trainable / counts.total)
    assert result.tokens.trained == sum(step.num_tokens for step in steps)
    assert result.tokens.trained == 3 * result.data["train"].tokens
    assert result.tokens.per_second == pytest.approx(
        result.tokens.trained / result.time.train_seconds
    )
    assert len(result.time.epoch_seconds) == 3
    assert sum(result.time.epoch_seconds) == pytest.approx(result.time.train_seconds)
    assert result.time.evaluation_seconds > 0
    assert result.memory.peak_bytes > 0
    for low, high in result.intervals["test"].values():
        assert low <= high


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_can_be_computed_again_from_the_predictions(start: Start, task: str) -> None:
    record = start(task=task)
    predictions = read_predictions(record.folder / PREDICTIONS_FILE)
    assert predictions == record.predictions
    assert [p.id for p in predictions] == [f"test.jsonl:{n}" for n in range(1, 13)]
    found = record.result.metrics["test"]
    assert found.keys() == set(TASKS[task].model_fields["metrics"].default)
    assert found == {name: METRICS[name].compute(predictions) for name in found}
    for line in lines_of(record.folder / PREDICTIONS_FILE):
        assert line.keys() == {field.name for field in fields(Prediction)}


def test_there_is_a_line_for_every_update_and_every_evaluation(start: Start) -> None:
    record = start("train.evaluate_every=2")
    lines = lines_of(record.folder / METRICS_FILE)
    assert [line for line in lines if "validation" not in line] == list(map(asdict, record.steps))
    assert [step.number for step in record.steps] == [1, 2, 3, 4, 5, 6]
    assert [line["number"] for line in lines] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    read = read_lines(record.folder / METRICS_FILE)
    assert [line for line in read if isinstance(line, Step)] == record.steps
    assert [line.model_dump() for line in read if isinstance(line, Evaluation)] == [
        line for line in lines if "validation" in line
    ]
    for line in validations(record):
        assert line.keys() == {"number", "epoch", "validation"}
        assert line["validation"].keys() == {"accuracy", "f1", "loss"}


def test_the_last_update_is_evaluated_even_out_of_turn(start: Start) -> None:
    assert [v["number"] for v in validations(start("train.evaluate_every=4"))] == [4, 6]


def test_truncation_is_counted_in_the_result_and_said_aloud(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    result = start("train.max_length=40").result
    too_long = len("much too long, " * 5)
    for split in SPLITS:
        size = result.data[split]
        assert (size.examples, size.sequences) == (12, 12)
        assert (size.truncated, size.tokens_cut) == (1, too_long - 40)
        assert f"{split}: 1 of 12 examples" in caplog.text
