"""The best state is kept, and the test split is read once."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tunewise.data.encode import encode_prompts
from tunewise.data.rows import SPLITS, Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.evaluation.evaluate import evaluate
from tunewise.metrics import METRICS, Prediction
from tunewise.runs.memo import Shared
from tunewise.runs.model import load_trained
from tunewise.runs.predictions import predict_examples
from tunewise.runs.prepare import prepare
from tunewise.runs.result import Best
from tunewise.tasks import TASKS

from .conftest import Start, validations

pytestmark = pytest.mark.usefixtures("quick")


def values_of(folder: Path, split: Split) -> dict[str, float]:
    """Return the metrics of a loaded run."""
    config, model, _ = load_trained(folder)
    prepared = prepare(config, None, torch.device("cpu"), Shared(), SPLITS)
    examples, encoded = prepared.examples[split], prepared.encoded[split]
    predictions = predict_examples(prepared, model, examples, encoded, config.task.metrics)
    return {name: METRICS[name].compute(predictions) for name in config.task.metrics}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_loaded_run_answers_as_it_did(start: Start, task: str) -> None:
    record = start(task=task)
    assert values_of(record.folder, "test") == record.result.metrics["test"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["generation", "instruction", "summarization"])
def test_texts_are_written_on_validation_data_only_if_they_choose_the_best_state(
    start: Start, task: str
) -> None:
    by_loss = start(task=task, out="by loss")
    assert by_loss.result.metrics["validation"].keys() == {"loss", "perplexity"}
    metric = next(
        name for name in TASKS[task].model_fields["metrics"].default if METRICS[name].of == "text"
    )
    by_text = start(f"train.metric={metric}", task=task, out="by text")
    assert by_text.result.metrics["validation"].keys() == set(
        TASKS[task].model_fields["metrics"].default
    )
    assert by_text.result.best.metric == metric


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_table_of_labels_is_left_where_there_are_labels(start: Start, task: str) -> None:
    tables = start(task=task).result.tables
    if task not in ("classification", "cloze"):
        assert tables is None
        return
    assert tables is not None
    labels = {"bad", "good"} if task == "classification" else {"no good", "good"}
    assert tables.per_class.keys() == labels
    assert sum(scores.support for scores in tables.per_class.values()) == 12


def test_the_cue_stays_when_a_prompt_is_cut_to_leave_room_for_what_is_written(
    start: Start, tokenizer: Tokenizer
) -> None:
    record = start("train.max_length=24", "train.epochs=1", task="summarization")
    prepared = prepare(record.result.config, None, torch.device("cpu"), Shared(), SPLITS)
    reserved = prepared.config.task.answer_kind.reserved(tokenizer)
    examples = prepared.examples["test"]
    written = encode_prompts(examples, tokenizer, prepared.layout, reserved)
    assert len(written.ids) == 12
    for ids in written.ids:
        assert len(ids) + 5 <= 24
        assert tokenizer.decode(ids.tolist()).endswith(">")


def test_samples_and_a_share_to_train_on_decide_how_many_examples_there_are(start: Start) -> None:
    sizes = start("task.samples={train: 4, test: 3}").result.data
    assert [sizes[split].examples for split in SPLITS] == [4, 12, 3]
    sizes = start("task.train_size=0.75", out="split").result.data
    assert [sizes[split].examples for split in SPLITS] == [8, 4, 12]


def test_a_task_may_ask_for_shorter_texts_and_the_model_for_shorter_still(start: Start) -> None:
    for word, cut in (("task.max_length=30", 30), ("task.max_length=512", 48)):
        result = start(word, "train.epochs=1", out=f"at most {cut}").result
        assert result.data["train"].tokens_cut >= len("much too long, " * 5) - cut
    result = start("task.max_length=30", "train.max_length=40", "train.epochs=1").result
    assert result.data["test"].tokens_cut == len("much too long, " * 5) - 40


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_is_kept_is_the_best_state_and_not_the_last(start: Start, method: str) -> None:
    record = start(
        f"method={method}",
        "train.metric=loss",
        "train.evaluate_every=1",
        "train.schedule=constant",
        "train.optimizer=sgd",
        "train.learning_rate=3",
        "train.epochs=4",
    )
    evaluated = validations(record)
    losses = [line["validation"]["loss"] for line in evaluated]
    best = evaluated[losses.index(min(losses))]
    assert min(losses) < losses[-1]  # else this would show nothing
    assert record.result.best == Best(
        epoch=best["epoch"], step=best["number"], metric="loss", value=min(losses)
    )
    assert record.result.metrics["validation"] == best["validation"]
    assert values_of(record.folder, "validation") == best["validation"]
    assert values_of(record.folder, "test") == record.result.metrics["test"]


def test_a_run_stops_after_as_many_evaluations_without_a_better_one_as_patience_says(
    start: Start,
) -> None:
    words = ["train.learning_rate=1e-20", "train.min_learning_rate=0", "train.epochs=9"]
    record = start(*words, "train.early_stopping.patience=3")
    assert [line["epoch"] for line in validations(record)] == [1, 2, 3, 4]
    assert (record.result.best.epoch, record.steps[-1].epoch) == (1, 4)
    assert len(record.result.time.epoch_seconds) == 4


def test_without_early_stopping_every_epoch_is_trained(start: Start) -> None:
    record = start("train.learning_rate=1e-20", "train.epochs=5")
    assert len(validations(record)) == 5
    assert record.result.best.epoch == 1


def test_the_test_split_is_read_once_and_last(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(model: Any, examples: Any, *rest: Any) -> list[Prediction]:
        seen.append(examples[0].id.partition(".")[0])
        return evaluate(model, examples, *rest)

    monkeypatch.setattr("tunewise.evaluation.answers.kind.evaluate", watched)
    start("train.epochs=3")
    assert seen == ["validation"] * 3 + ["test"]


def test_learning_shows(start: Start) -> None:
    record = start(
        "method=full", "train.epochs=20", "train.learning_rate=0.02", "train.batch_size=12"
    )
    assert record.steps[-1].loss < 0.5 * record.steps[0].loss
