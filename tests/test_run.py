"""A run leaves everything that is needed to believe it, to repeat it and to use it."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny import TASK_SETTINGS, save_tiny

from tunewise.config import RunConfig, make_config
from tunewise.data.rows import SPLITS, Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, ModelError, TrainingError
from tunewise.evaluation.answers import TextAnswer
from tunewise.evaluation.evaluate import evaluate
from tunewise.generation.generate import generate
from tunewise.methods import METHODS
from tunewise.metrics import METRICS, Prediction
from tunewise.run import RunRecord, run
from tunewise.runs.answer import predict_examples
from tunewise.runs.folder import (
    ADAPTER_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    read_lines,
    read_predictions,
    read_result,
)
from tunewise.runs.memo import Shared
from tunewise.runs.model import adapted_model, load_trained
from tunewise.runs.prepare import prepare
from tunewise.runs.result import Best, Evaluation
from tunewise.tasks import TASKS
from tunewise.training.loop import Step

pytestmark = pytest.mark.usefixtures("quick")

WORDS = ["good", "bad", "fine", "awful"]
Start = Callable[..., RunRecord]


@pytest.fixture
def config_of(model_folder: Path, rows: Path) -> Callable[..., RunConfig]:
    def make(*words: str, task: str = "classification") -> RunConfig:
        values = {
            "model": str(model_folder),
            "task": {"kind": task, "path": str(rows)} | TASK_SETTINGS.get(task, {}),
            "train": {"epochs": 2, "batch_size": 5, "learning_rate": 0.01, "precision": "fp32"},
        }
        return make_config(fields=values, overrides=words)

    return make


@pytest.fixture
def start(config_of: Callable[..., RunConfig], tmp_path: Path) -> Start:
    def begin(*words: str, task: str = "classification", out: str = "run") -> RunRecord:
        return run(config_of(*words, task=task), out=tmp_path / out)

    return begin


def strict_json(text: str) -> Any:
    """Return what JSON says, without the numbers that JSON does not have."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [strict_json(line) for line in path.read_text("utf-8").splitlines()]


def validations(record: RunRecord) -> list[dict[str, Any]]:
    return [line for line in lines_of(record.folder / METRICS_FILE) if "validation" in line]


def without_seconds(steps: list[Step]) -> list[dict[str, Any]]:
    return [{name: v for name, v in asdict(step).items() if name != "seconds"} for step in steps]


# What is left in the folder.


@pytest.mark.parametrize(("method", "left"), [("lora", "adapter"), ("full", "model")])
def test_a_run_leaves_its_files_and_no_others(start: Start, method: str, left: str) -> None:
    folder = start(f"method={method}").folder
    names = {"config.yaml", "metrics.jsonl", "predictions.jsonl", "result.json", left}
    assert {path.name for path in folder.iterdir()} == names


def test_the_result_has_exactly_the_fields_that_are_promised(start: Start) -> None:
    result = strict_json((start().folder / "result.json").read_text("utf-8"))
    expected = {
        "name": None,
        "status": None,
        "config": {"model", "task", "method", "train", "seed"},
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
    assert [p.example_id for p in predictions] == [f"test.jsonl:{n}" for n in range(1, 13)]
    found = record.result.metrics["test"]
    assert found.keys() == set(TASKS[task].metrics)
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


# A run can be repeated.


@pytest.mark.parametrize("task", ["classification", "language_modeling", "cloze", "generation"])
@pytest.mark.parametrize("kind", METHODS)
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


# The best state is kept, and the test split is read once.


def values_of(folder: Path, split: Split) -> dict[str, float]:
    """Return the metrics of a loaded run."""
    config, model, _ = load_trained(folder)
    prepared = prepare(config, None, torch.device("cpu"), Shared(), SPLITS)
    examples, encoded = prepared.examples[split], prepared.encoded[split]
    predictions = predict_examples(prepared, model, examples, encoded, config.task.metrics)
    return {name: METRICS[name].compute(predictions) for name in config.task.metrics}


@pytest.mark.parametrize("task", TASKS)
def test_a_loaded_run_answers_as_it_did(start: Start, task: str) -> None:
    record = start(task=task)
    assert values_of(record.folder, "test") == record.result.metrics["test"]


@pytest.mark.parametrize("task", ["generation", "instruction", "summarization"])
def test_texts_are_written_on_validation_data_only_if_they_choose_the_best_state(
    start: Start, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    written = []
    with_texts = TextAnswer._with_texts

    def watched(answer: Any, inference: Any, examples: Any, predictions: Any) -> Any:
        written.append(examples[0].id.partition(".")[0])
        return with_texts(answer, inference, examples, predictions)

    monkeypatch.setattr(TextAnswer, "_with_texts", watched)
    by_loss = start(task=task, out="by loss")
    assert written == ["test"]
    assert by_loss.result.metrics["validation"].keys() == {"loss", "perplexity"}
    metric = next(name for name in TASKS[task].metrics if METRICS[name].of == "text")
    by_text = start(f"train.metric={metric}", task=task, out="by text")
    assert written == ["test", "validation", "validation", "test"]
    assert by_text.result.metrics["validation"].keys() == set(TASKS[task].metrics)
    assert by_text.result.best.metric == metric


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
    start: Start, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    seen: list[str] = []

    def watched(model: Any, prompts: Any, *rest: Any) -> Any:
        seen.extend(tokenizer.decode(ids.tolist()) for ids in prompts)
        assert all(len(ids) + 5 <= 24 for ids in prompts)
        return generate(model, prompts, *rest)

    monkeypatch.setattr("tunewise.evaluation.answers.text.generate", watched)
    start("train.max_length=24", "train.epochs=1", task="summarization")
    assert len(seen) == 12
    assert all(text.endswith(">") for text in seen)


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


# What cannot be run, and what cannot be loaded.


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train.max_length=49"], r"train\.max_length: 49; the model has 48"),
        (["method=soft_prompt", "train.max_length=13"], r"13 leaves no room .* 12 virtual"),
        (["method=soft_prompt", "method.tokens=48"], r"48 leaves no room .* 48 virtual"),
        (["method.blocks=last-3"], r"method\.blocks: the last 3 .* has 2"),
        (["method={kind: last_blocks, blocks: 3}"], r"method\.blocks: 3 .* has 2"),
    ],
)
def test_what_the_model_does_not_have_is_said_before_anything_is_written(
    start: Start, tmp_path: Path, words: list[str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        start(*words)
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_that_knows_more_than_the_model_is_refused(
    config_of: Callable[..., RunConfig], model_folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_tiny(tmp_path / "small", tokenizer=tokenizer, vocabulary_size=200)
    with pytest.raises(ModelError, match=r"small: .*256.*199"):
        run(config_of(f"model={tmp_path / 'small'}"), out=tmp_path / "run")


def test_a_run_that_diverges_leaves_no_result(start: Start, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="learning rate"):
        start("method=full", "train.optimizer=sgd", "train.learning_rate=1e35")
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("there", ["a file", "a folder with a file", "a finished run"])
def test_a_folder_that_holds_something_is_refused_and_left_alone(
    start: Start, tmp_path: Path, there: str
) -> None:
    out = tmp_path / "run"
    if there == "a file":
        out.write_text("mine")
    elif there == "a finished run":
        start()
    else:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"--out .*run: holds something already"):
        start()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_an_empty_folder_is_used(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert (start().folder / "result.json").is_file()


def test_a_folder_that_cannot_be_made_is_named(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*file/run: cannot be made"):
        start(out="file/run")


def test_without_a_folder_a_run_is_numbered_under_runs(
    config_of: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_of("train.epochs=1")
    folders = [run(config).folder for _ in range(3)]
    assert folders == [Path(f"runs/tiny-custom-lora{end}") for end in ("", "-2", "-3")]


def test_a_folder_that_is_no_run_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: no such file"):
        load_trained(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "truncated", "renamed", "reshaped"])
def test_a_damaged_adapter_is_named(start: Start, damage: str) -> None:
    folder = start().folder
    path = folder / ADAPTER_FILE
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        tensors = load_file(path)
        name = "blocks.0.attention.query.A"
        tensor = tensors.pop(name)
        if damage == "renamed":
            tensors["blocks.0.attention.query.C"] = tensor
        else:
            tensors[name] = tensor[:, :-1].contiguous()
        save_file(tensors, path)
    with pytest.raises(ModelError, match=r"adapter\.safetensors: ") as caught:
        load_trained(folder)
    if damage in ("renamed", "reshaped"):
        assert "blocks.0.attention.query" in str(caught.value)


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
