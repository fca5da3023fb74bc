"""What cannot be a configuration is named, with its field and what would be right."""

import re
from pathlib import Path
from typing import Any

import pytest

from tunewise.config import RunConfig, make_config
from tunewise.errors import ConfigError
from tunewise.methods import METHODS
from tunewise.tasks import TASKS


def message(*overrides: str, path: Path | None = None, **fields: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make_config(path, fields, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "wrong", "near"),
    [
        ("modle=gpt2", "modle", "model"),
        ("train.epoch=3", "epoch", "epochs"),
        ("train.lerning_rate=3", "lerning_rate", "learning_rate"),
        ("train.early_stopping.patients=3", "patients", "patience"),
        ("method.rnk=3", "rnk", "rank"),
        ("task.txt=review", "txt", "text"),
        ("task.sample=8", "sample", "samples"),
        ("task.samples.trian=8", "trian", "train"),
        ("task={name: sonnets, decoding: {temprature: 1}}", "temprature", "temperature"),
        ("task={name: imdb, hub: {pth: me/mine}}", "pth", "path"),
        ("task={kind: sumarization}", "sumarization", "summarization"),
        ("method=lroa", "lroa", "lora"),
        ("method=soft-prompt", "soft-prompt", "soft_prompt"),
        ("task=ssst5", "ssst5", "sst5"),
        ("task={kind: clasification}", "clasification", "classification"),
        ("train.metric=acuracy", "acuracy", "accuracy"),
        ("method.targets=[quary]", "quary", "query"),
        ("train.optimizer=adamv", "adamv", "adam"),
        ("train.objective=cross_entropi", "cross_entropi", "cross_entropy"),
        ("train.objective={kind: cross_entrpy}", "cross_entrpy", "cross_entropy"),
        ("task.metrics=[acuracy]", "acuracy", "accuracy"),
        ("train.optimizer={kind: sdg}", "sdg", "sgd"),
        ("train.optimizer.beta3=0.9", "beta3", "beta2"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(word: str, wrong: str, near: str) -> None:
    found = message(word)
    assert repr(wrong) in found
    assert f"did you mean {near!r}?" in found


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("train.epochs=two", "train.epochs", "two"),
        ("train.epochs=1.5", "train.epochs", "1.5"),
        ("train.epochs=-1", "train.epochs", "-1"),
        ("train.learning_rate=fast", "train.learning_rate", "fast"),
        ("train.learning_rate=0", "train.learning_rate", "0"),
        ("train.learning_rate=.nan", "train.learning_rate", "nan"),
        ("train.learning_rate=.inf", "train.learning_rate", "inf"),
        ("train.warmup=2", "train.warmup", "2"),
        ("train.optimizer=lion", "train.optimizer", "lion"),
        ("train.optimizer.beta1=1", "train.optimizer.beta1", "1"),
        ("train.optimizer={kind: sgd, momentum: 2}", "train.optimizer.momentum", "2"),
        ("train.prefix_cache=-1", "train.frozen_cache", "-1"),
        ("train.checkpointing=perhaps", "train.checkpointing", "perhaps"),
        ("train.early_stopping.patience=0", "train.early_stopping.patience", "0"),
        ("train=fast", "train", "fast"),
        ("method.rank=0", "method.rank", "0"),
        ("method.rank=big", "method.rank", "big"),
        ("method.scaling=alpha/r^2", "method.scaling", "alpha/r^2"),
        ("method.blocks=last", "method.blocks", "last"),
        ("method.blocks=2.5", "method.blocks", "2.5"),
        ("method.targets=query", "method.targets", "query"),
        ("method={kind: soft_prompt, tokens: few}", "method.tokens", "few"),
        ("task.samples=0", "task.samples", "0"),
        ("task.samples=some", "task.samples", "some"),
        ("task.samples={train: some}", "task.samples.train", "whole number"),
        ("task={name: imdb, hub: {path: a/b, splits: {dev: x}}}", "task.hub.splits.dev", "'train'"),
        ("task.train_size=1", "task.train_size", "1"),
        ("task.max_length=1", "task.max_length", "1"),
        ("task.sample_seed=-1", "task.sample_seed", "-1"),
        ("task={name: sonnets, decoding: {temperature: hot}}", "task.decoding.temperature", "hot"),
        ("task={name: sonnets, loss_on: anything}", "task.loss_on", "anything"),
        ("task={name: sonnets, given_lines: 0}", "task.given_lines", "0"),
        ("task={name: imdb, labels: {0: bad}}", "task.labels", "2"),
        ("seed=-1", "seed", "-1"),
        ("seed=4294967296", "seed", "4294967296"),
        ("model=3", "model", "3"),
    ],
)
def test_a_wrong_value_is_named_with_its_field(word: str, path: str, value: str) -> None:
    found = message(word)
    assert re.search(rf"(^|\s){re.escape(path)}: ", found), found
    assert value in found


@pytest.mark.parametrize(
    "word", ["seed", "=3", "train.=3", ".seed=3", "train..epochs=3", "seed=[1"]
)
def test_a_word_that_cannot_be_read_is_shown(word: str) -> None:
    assert word.partition("=")[0] in message(word)


def test_fields_that_do_not_go_together_are_named_with_both_values() -> None:
    found = message("train.learning_rate=0.001", "train.min_learning_rate=0.01")
    assert "train.min_learning_rate 0.01" in found
    assert "train.learning_rate 0.001" in found


def test_a_metric_of_another_kind_of_task_is_answered_with_those_of_this_one() -> None:
    found = message("task={kind: language_modeling, path: a.txt}", "train.metric=accuracy")
    assert "train.metric" in found
    assert "loss, perplexity" in found


def test_a_task_or_method_without_a_kind_is_answered_with_the_kinds_there_are() -> None:
    assert all(kind in message(method={"rank": 3}) for kind in METHODS)
    assert all(kind in message(task={"path": "a.csv"}) for kind in TASKS)


@pytest.mark.parametrize(
    "content",
    ["- a list", "just text", "model: [unclosed", "a: b: c", "model: \x00", "train: {epochs: two}"],
)
def test_a_file_that_is_no_configuration_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    assert str(path) in message(path=path)


def test_a_file_that_is_not_there_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none.yaml") in message(path=tmp_path / "none.yaml")
    assert str(tmp_path) in message(path=tmp_path)
    (tmp_path / "latin.yaml").write_bytes("model: é".encode("latin-1"))
    assert "latin.yaml" in message(path=tmp_path / "latin.yaml")


def test_a_tag_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, ran = tmp_path / "run.yaml", tmp_path / "ran"
    path.write_text(f"model: !!python/object/apply:pathlib.Path.touch [{ran}]\n")
    assert str(path) in message(path=path)
    assert "YAML" in message("model=!!python/name:os.system")
    assert not ran.exists()


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# all defaults\n")
    assert make_config(tmp_path / "run.yaml") == RunConfig()


@pytest.mark.parametrize(
    "word", ["task.metrics=[accuracy, chrf]", "task.metrics=[]", "task.metrics=[loss, loss]"]
)
def test_metrics_that_a_task_cannot_have_are_refused(word: str) -> None:
    assert "metrics" in message(word)
