"""The configuration of a run: made from a file, from `key=value` words, or in Python."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator

from tunewise.data.rows import SUFFIXES, suffix_of
from tunewise.errors import ConfigError, nearest
from tunewise.files import check_regular, write_whole
from tunewise.methods import METHODS, AnyMethod
from tunewise.settings import Settings, validate
from tunewise.tasks import TASKS, AnyTask, Instruction, Task
from tunewise.tasks.named import named_task
from tunewise.tasks.task import POCKET_REVIEWS
from tunewise.training.config import TrainConfig, with_new_names
from tunewise.training.objectives import objective_settings
from tunewise.training.optimizers import optimizer_settings
from tunewise.yaml import dump_yaml, load_yaml, with_space

STUDY_FIELDS = {"base", "runs", "vary", "tune"}
"""Fields by which a file is known to be a study."""
DEFAULT_TASK, DEFAULT_METHOD = POCKET_REVIEWS, "lora"


class RunConfig(Settings):
    """Everything that decides the result of a run."""

    model: str = "pocket"
    """A known name, a folder in Hugging Face layout, or a hub id."""
    task: AnyTask = Field(default=DEFAULT_TASK, validate_default=True)
    """A name of the catalogue, or a kind of task with a path."""
    method: AnyMethod = Field(default=DEFAULT_METHOD, validate_default=True)
    """The method: which weights are trained."""
    from_: Path | None = Field(default=None, alias="from")
    """The folder of another run, whose trained weights this one begins with."""
    train: TrainConfig = Field(default=TrainConfig(), validate_default=True)
    """Settings of training."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The seed of all randomness: fresh weights, the order of the rows, dropout."""

    @field_validator("task", mode="before")
    @classmethod
    def _task_by_name(cls, value: Any) -> Any:
        return task_settings(value)

    @field_validator("method", mode="before")
    @classmethod
    def _method_by_kind(cls, value: Any) -> Any:
        return method_settings(value)

    @field_validator("from_")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @field_validator("train")
    @classmethod
    def _rate_of_the_method(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        if train.learning_rate is None and "method" in info.data:
            rate = info.data["method"].default_learning_rate
            return train.model_copy(update={"learning_rate": rate})
        return train

    @model_validator(mode="after")
    def _fields_agree(self) -> "RunConfig":
        train = self.train
        if train.learning_rate is not None and train.min_learning_rate > train.learning_rate:
            raise ValueError(
                f"train.min_learning_rate {train.min_learning_rate:g} is above "
                f"train.learning_rate {train.learning_rate:g}"
            )
        if train.metric is not None and train.metric not in self.task.metrics:
            hint = nearest(train.metric, self.task.metrics)
            raise ValueError(f"train.metric: no metric {train.metric!r} for this task; {hint}")
        return self

    @property
    def metric(self) -> str:
        """The validation metric that chooses the best state."""
        return self.train.metric or self.task.metrics[0]

    @property
    def deciding(self) -> "RunConfig":
        """The configuration without what does not change the result: trackers, how chats are read.

        Runs of earlier versions have no `single_message`, and are resumed like others.
        """
        train = self.train.model_copy(update={"trackers": ()})
        task: Task = self.task
        if isinstance(task, Instruction):
            task = task.model_copy(update={"single_message": None})
        return self.model_copy(update={"train": train, "task": task})


def task_settings(value: Any) -> Any:
    """Return a task given by its name as the settings it stands for; anything else as it is.

    Raises:
        ConfigError: if the name or kind is not known.
    """
    if isinstance(value, str):
        _refuse_unnamed(value)
        value = named_task(value)
    if isinstance(value, Mapping) and _is_named(value):
        value = {**named_task(value["name"]), **value}
    return _of_known_kind("task", value, TASKS)


def _refuse_unnamed(task: str) -> None:
    """Raise ConfigError if what should be the name of a task is a kind of task, or a file."""
    if task in TASKS:
        raise ConfigError(
            f"task {task!r}: is a kind of task, and a name is needed; for rows of your own: "
            f"tunewise run TABLE.csv --target COLUMN, or task.kind={task} task.path=TABLE.csv"
        )
    if suffix_of(Path(task)) in SUFFIXES:
        raise ConfigError(
            f"task {task!r}: is a file, and a name is needed; for a file: tunewise run {task} "
            "--target COLUMN"
        )


def method_settings(value: Any) -> Any:
    """Return a method given by its kind alone as settings; anything else as it is.

    Raises:
        ConfigError: if the kind is not known.
    """
    return _of_known_kind("method", {"kind": value} if isinstance(value, str) else value, METHODS)


def _is_named(task: Mapping[str, Any]) -> bool:
    """Return whether a task is one of the catalogue, with some of its fields set."""
    return "kind" not in task and isinstance(task.get("name"), str)


def _of_known_kind(field: str, value: Any, kinds: Mapping[str, object]) -> Any:
    """Return settings as they are; raise ConfigError unless their kind is known."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        problem = f"no {field} {kind!r}" if kind else f"{field}: no `kind` is given"
        raise ConfigError(f"{problem}; {nearest(str(kind), kinds)}")
    return value


def make_config(
    path: Path | None = None,
    fields: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Return a configuration from a YAML file, then named fields, then `key=value` words.

    Raises:
        ConfigError: one line that names the file or word, and the field.
    """
    written = {} if path is None else read_yaml(path)
    if path is not None and not STUDY_FIELDS.isdisjoint(written):
        raise ConfigError(f"{path}: is a study, not a run; write `tunewise study {path}`")
    values: dict[str, Any] = copy.deepcopy(written)
    named = {name: value for name, value in (fields or {}).items() if value is not None}
    values |= copy.deepcopy(named)  # words set fields inside it
    for keys, value in map(parse_word, overrides):
        set_field(values, keys, value)
    try:
        return validate(RunConfig, values, str(path) if path else "configuration")
    except ConfigError:
        if path is None or values == written:
            raise
        validate(RunConfig, written, str(path))  # raises if the file is to blame
        return validate(RunConfig, values, f"the command line, over {path}")


def set_field(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set one field of a configuration that is still plain values.

    A field inside a task, a method, an objective or an optimizer is set on what its name stands
    for; on the default, if none is named. `method.rank=4` turns `{method: lora}`, and also `{}`,
    into `{method: {kind: lora, rank: 4}}`. `task.kind` and `task.path` begin a task of the user's
    own.

    Raises:
        ConfigError: if a name is not known, or the path leads into a field that has none.
    """
    match path:
        case ["task", "kind" | "path", *_]:
            _spell_out(values, "task", {}, task_settings)
        case ["task", _, *_]:
            _spell_out(values, "task", DEFAULT_TASK, task_settings)
        case ["method", _, *_]:
            _spell_out(values, "method", DEFAULT_METHOD, method_settings)
        case ["train", name, *inner] if isinstance(train := values.get("train") or {}, Mapping):
            values["train"] = with_new_names(train)
            (name,) = with_new_names({name: None})  # in case it is an old name
            if name == "optimizer" and inner:
                default = TrainConfig().optimizer.name
                _spell_out(values["train"], name, default, optimizer_settings)
            if name == "objective" and inner:
                default = TrainConfig().objective.kind
                _spell_out(values["train"], name, default, objective_settings)
            path = ["train", name, *inner]
    _set(values, path, value)


def _spell_out(
    values: dict[str, Any], field: str, default: Any, settings: Callable[[Any], Any]
) -> None:
    """Put the settings that a name stands for in the name's place."""
    value = values.get(field, default)
    if isinstance(value, str) or (isinstance(value, Mapping) and _is_named(value)):
        value = copy.deepcopy(dict(settings(value)))
    values[field] = value


def fields_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the fields that `key=value` words set.

    Raises:
        ConfigError: if a word is not `key=value`, or sets a field inside one that has none.
    """
    values: dict[str, Any] = {}
    for keys, value in map(parse_word, words):
        _set(values, keys, value)
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: if it cannot be read or holds anything else.
    """
    try:
        check_regular(path)
        values = load_yaml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not readable as YAML: {reason}") from error
    if not isinstance(values or {}, dict):
        first = with_space((*values.split(), "")[0]) if isinstance(values, str) else None
        raise ConfigError(
            f"{path}: holds a {type(values).__name__}; `{first or 'field: value'}` lines are needed"
        )
    return values or {}


def write_yaml(settings: Settings, path: Path) -> None:
    """Write all fields of settings, in the form that `read_yaml` reads."""
    write_whole(path, dump_yaml(settings.model_dump(mode="json")))


def parse_word(override: str) -> tuple[list[str], Any]:
    """Return the dotted path and the YAML value of a `key=value` word."""
    key, separator, text = override.partition("=")
    if not separator or not all(key.split(".")):
        raise ConfigError(f"{override!r} is not key=value, such as train.epochs=2")
    try:
        return key.split("."), load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: not readable as YAML: {error}") from error


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set one field, making the mappings on the way to it."""
    for depth, step in enumerate(path[:-1], start=1):
        if values.get(step) is None:
            values[step] = {}
        inner = values[step]
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(path)}: {'.'.join(path[:depth])} has no fields")
        values = inner
    # YAML reads a label `1:` as a number, which the word `task.labels.1=one` means too.
    key = next((known for known in values if str(known) == path[-1]), path[-1])
    values[key] = value
