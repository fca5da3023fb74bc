"""A configuration is its files, fields and words, and is written as it was given."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewise.config import RunConfig, make_config, write_yaml
from tunewise.errors import ConfigError
from tunewise.methods import METHODS
from tunewise.methods.lora import LoRA
from tunewise.methods.soft_prompt import SoftPrompt
from tunewise.tasks.generation import Generation
from tunewise.tasks.named import task_names
from tunewise.training import config as training_config
from tunewise.training.objectives import CrossEntropy
from tunewise.training.optimizers.adam import Adam, AdamW
from tunewise.training.optimizers.sgd import SGD
from tunewise.yaml import load_yaml

FROM_DESIGN = """
model: gpt2-medium
task: imdb
method: {kind: lora, rank: 16, alpha: 16, scaling: alpha/r, dropout: 0.0,
         targets: [query, key, value, out, up, down], blocks: all}
train: {epochs: 2, batch_size: 8, max_length: 512, tokens_per_pass: 8192, optimizer: adamw,
        learning_rate: 5.0e-5, min_learning_rate: 1.0e-5, schedule: cosine, warmup: 0.01,
        weight_decay: 0.1, clip_norm: 1.0, early_stopping: {patience: 2}, precision: auto,
        checkpointing: false}
seed: 0
"""


def field(config: RunConfig, path: str) -> Any:
    value: Any = config
    for step in path.split("."):
        value = value[step] if isinstance(value, dict) else getattr(value, step)
    return value


def test_nothing_said_is_the_embedded_model_and_task_with_lora() -> None:
    config = make_config()
    assert config == RunConfig()
    assert (config.model, config.task.name, config.method.kind) == (
        "pocket",
        "pocket_reviews",
        "lora",
    )


def test_a_file_is_read_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(FROM_DESIGN)
    config = make_config(path)
    assert (config.model, config.task.name) == ("gpt2-medium", "imdb")
    layers = ("query", "key", "value", "out", "up", "down")
    assert config.method == LoRA(rank=16, alpha=16, targets=layers)
    assert (config.train.max_length, config.train.learning_rate) == (512, 5e-5)
    assert config.train.early_stopping is not None
    assert config.train.early_stopping.patience == 2


def test_fields_win_over_the_file_and_words_over_fields(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: one\nseed: 1\nmethod: full\ntrain: {epochs: 7, batch_size: 3}\n")
    config = make_config(path, {"model": "two", "method": None}, ["seed=5", "train.epochs=2"])
    assert (config.model, config.seed, config.method.kind) == ("two", 5, "full")
    assert (config.train.epochs, config.train.batch_size) == (2, 3)


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        (["task=sst5", "task.text=sentence"], "task.text", "sentence"),
        (["task=sst5", "task.text=sentence"], "task.name", "sst5"),
        (["task.text=sentence"], "task.name", "pocket_reviews"),
        (["task.kind=language_modeling", "task.path=a.csv"], "task.kind", "language_modeling"),
        (["task.path=a.csv", "task.kind=classification"], "task.name", "custom"),
        (["method.rank=4"], "method.rank", 4),
        (["method=lora", "method.rank=4"], "method.kind", "lora"),
        (["method=soft_prompt", "method.tokens=5"], "method.tokens", 5),
        (["method={kind: last_blocks, blocks: 4}"], "method.blocks", 4),
        (["method.targets=[query, value]"], "method.targets", ("query", "value")),
        (["method.blocks=last-2"], "method.blocks", "last-2"),
        (["method.blocks=[0, 2]"], "method.blocks", (0, 2)),
        (["train.learning_rate=1e-4"], "train.learning_rate", 1e-4),
        (["train.early_stopping.patience=4"], "train.early_stopping.patience", 4),
        (["train.clip_norm=null"], "train.clip_norm", None),
        (["task.samples=64"], "task.samples", 64),
        (["task.samples={train: 8}"], "task.samples", {"train": 8}),
        (["task.samples.train=8"], "task.samples", {"train": 8}),
        (["task=imdb", "task.samples=64"], "task.samples", 64),
        (["task=imdb", "task.samples.train=8"], "task.samples", {"train": 8, "validation": 3000}),
        (["task=imdb", "task.samples=null"], "task.samples", None),
        (["task.train_size=0.9"], "task.train_size", 0.9),
        (["task=sonnets", "task.decoding.temperature=0.7"], "task.decoding.temperature", 0.7),
        (["task=sonnets", "task.decoding.temperature=0.7"], "task.decoding.max_new_tokens", 256),
        (["task=instructions", "task.decoding.stop=['###']"], "task.decoding.stop", ("###",)),
        (["task=mrpc", "task.verbalizers.1=' equal'"], "task.verbalizers.1", " equal"),
        (
            ["task=imdb", "task.hub.path=me/mine"],
            "task.hub.splits",
            {"train": "train", "test": "test"},
        ),
        (["train.objective=cross_entropy"], "train.objective", CrossEntropy()),
        (["train.objective={kind: cross_entropy}"], "train.objective", CrossEntropy()),
        (["task.metrics=[loss, perplexity]"], "task.metrics", ("loss", "perplexity")),
        (["train.optimizer=adam"], "train.optimizer", Adam()),
        (["train.optimizer=sgd_momentum"], "train.optimizer", SGD(momentum=0.9)),
        (["train.optimizer.beta2=0.95"], "train.optimizer", AdamW(beta2=0.95)),
        (["train.optimizer=sgd", "train.optimizer.momentum=0.5"], "train.optimizer.momentum", 0.5),
        (["train.optimizer={kind: adam, beta1: 0.8}"], "train.optimizer", Adam(beta1=0.8)),
        (["train.optimizer.kind=sgd"], "train.optimizer", SGD()),
        (["train.prefix_cache=0"], "train.frozen_cache", 0),
        (["train.frozen_cache=1", "train.prefix_cache=2"], "train.frozen_cache", 2),
        (["train.prefix_cache=2", "train.frozen_cache=1"], "train.frozen_cache", 1),
        (["model=a=b"], "model", "a=b"),
        (["seed=1", "seed=2"], "seed", 2),
    ],
)
def test_a_word_sets_one_field(words: list[str], path: str, value: Any) -> None:
    assert field(make_config(overrides=words), path) == value


def test_words_set_single_fields_of_a_method_or_task_that_is_named_elsewhere(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("task: sst5\nmethod: {kind: soft_prompt, tokens: 9}\n")
    config = make_config(path, overrides=["task.text=sentence", "method.init=gaussian"])
    assert (config.task.name, field(config, "task.text")) == ("sst5", "sentence")
    assert config.method == SoftPrompt(tokens=9, init="gaussian")
    config = make_config(fields={"task": "sst5", "method": "lora"}, overrides=["method.rank=4"])
    assert (config.task.name, config.method) == ("sst5", LoRA(rank=4))


def test_words_set_fields_inside_those_of_a_named_task() -> None:
    named = {"task": {"name": "sonnets", "samples": 5}}
    task = make_config(fields=named, overrides=["task.decoding.max_new_tokens=8"]).task
    whole = make_config(fields=named).task
    assert isinstance(task, Generation) and isinstance(whole, Generation)
    assert task.decoding == whole.decoding.model_copy(update={"max_new_tokens": 8})
    assert task.samples == 5


def test_numbers_and_truth_values_are_those_of_yaml_1_2() -> None:
    read = load_yaml("[1e-3, 5E+2, 1e3x, yes, no, on, true, 8]")
    assert read == [0.001, 500.0, "1e3x", "yes", "no", "on", True, 8]
    assert isinstance(read[0], float)


def test_the_values_given_are_left_as_they_were() -> None:
    fields = {"method": {"kind": "lora"}, "train": {"epochs": 1}}
    before = copy.deepcopy(fields)
    make_config(fields=fields, overrides=["method.rank=4", "train.epochs=9", "train.warmup=0.5"])
    assert fields == before


@pytest.mark.parametrize("kind", METHODS)
def test_the_rate_is_the_methods_own_unless_one_is_given(kind: str) -> None:
    own = METHODS[kind].default_learning_rate
    assert make_config(fields={"method": kind}).train.learning_rate == own
    assert RunConfig(method=METHODS[kind]()).train.learning_rate == own  # type: ignore[arg-type]
    given = make_config(fields={"method": kind}, overrides=["train.learning_rate=0.5"])
    assert given.train.learning_rate == 0.5


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("task", [*task_names(), {"kind": "language_modeling", "path": "a.txt"}])
def test_a_written_configuration_is_read_again_as_the_same(
    kind: str, task: str | dict[str, str], tmp_path: Path
) -> None:
    config = make_config(fields={"method": kind, "task": task, "seed": 3})
    write_yaml(config, tmp_path / "config.yaml")
    assert make_config(tmp_path / "config.yaml") == config


def test_a_written_configuration_leaves_nothing_to_defaults(tmp_path: Path) -> None:
    write_yaml(make_config(), tmp_path / "config.yaml")
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config = make_config()
    for part in ("task", "method", "train"):
        fields = type(getattr(config, part)).model_fields
        assert values[part].keys() == {field.alias or name for name, field in fields.items()}
    fields = RunConfig.model_fields
    assert values.keys() == {field.alias or name for name, field in fields.items()}


@pytest.mark.parametrize(
    "words",
    [
        ["train.early_stopping.patience=4"],
        ["method=full"],
        ["method={kind: soft_prompt, tokens: 3}"],
        ["task=sst5"],
        ["train.max_length=64", "method.blocks=last-1"],
        ["train.optimizer.beta1=0.8"],
    ],
)
def test_a_written_configuration_can_be_changed_by_words(words: list[str], tmp_path: Path) -> None:
    write_yaml(make_config(), tmp_path / "config.yaml")
    changed = make_config(tmp_path / "config.yaml", overrides=words)
    rate = f"train.learning_rate={make_config().train.learning_rate}"
    assert changed == make_config(overrides=[*words, rate])


def test_an_old_name_is_read_and_its_new_one_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training_config._say_new_name.cache_clear()
    path = tmp_path / "config.yaml"
    path.write_text("train: {prefix_cache: 0.5, epochs: 2}\n")
    for _ in range(2):
        assert make_config(path).train.frozen_cache == 0.5
    assert make_config(path, overrides=["train.frozen_cache=2"]).train.frozen_cache == 2
    assert [entry.message for entry in caplog.records] == [
        "train.prefix_cache is now called train.frozen_cache; the old name still works"
    ]
    write_yaml(make_config(path), path)
    assert "prefix_cache" not in path.read_text()
    path.write_text("train: {prefix_cache: 0.5, frozen_cache: 2}\n")
    for words in ([], ["train.epochs=1"]):
        with pytest.raises(ConfigError, match="give one of them"):
            make_config(path, overrides=words)


def test_an_optimizer_is_written_as_briefly_as_it_can_be(tmp_path: Path) -> None:
    for words, written in (
        ([], "adamw"),
        (["train.optimizer=sgd_momentum"], "sgd_momentum"),
        (["train.optimizer.momentum=0.5", "train.optimizer.kind=sgd"][::-1], None),
    ):
        write_yaml(make_config(overrides=words), tmp_path / "config.yaml")
        found = yaml.safe_load((tmp_path / "config.yaml").read_text())["train"]["optimizer"]
        assert found == (written or {"kind": "sgd", "momentum": 0.5})


def test_an_objective_is_written_by_its_kind_and_the_default_is_left_out_of_names() -> None:
    config = make_config()
    assert config.model_dump()["train"]["objective"] == "cross_entropy"
    assert "objective" not in config.model_dump(exclude_defaults=True)["train"]
    task = make_config(overrides=["task.samples=8"]).model_dump(exclude_defaults=True)["task"]
    assert "metrics" not in task
