"""The configuration of a run: made from a file, from `key=value` words, or in Python."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator

from tunewise.errors import ConfigError, nearest
from tunewise.files import write_whole
from tunewise.methods import METHODS, AnyMethod
from tunewise.settings import Settings, validate
from tunewise.tasks import TASKS, AnyTask
from tunewise.tasks.named import named_task
from tunewise.tasks.task import POCKET_REVIEWS
from tunewise.training.config import TrainConfig
from tunewise.yaml import dump_yaml, load_yaml

DEFAULTS = {"task": POCKET_REVIEWS, "method": "lora"}
"""What a run does where nothing is said."""


class RunConfig(Settings):
    """Everything that decides the result of a run."""

    model: str = "pocket"
    """A known name, a folder in Hugging Face layout, or a hub id."""
    task: AnyTask = Field(default=DEFAULTS["task"], validate_default=True)
    """A name of the catalogue, or a kind of task with a path."""
    method: AnyMethod = Field(default=DEFAULTS["method"], validate_default=True)
    """What is trained."""
    train: TrainConfig = Field(default=TrainConfig(), validate_default=True)
    """How it is trained."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The source of all chance: fresh weights, the order of the rows, dropout."""

    @field_validator("task", mode="before")
    @classmethod
    def _task_by_name(cls, value: Any) -> Any:
        return expanded("task", value)

    @field_validator("method", mode="before")
    @classmethod
    def _method_by_kind(cls, value: Any) -> Any:
        return expanded("method", value)

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
        """This without what only shows a run: where two agree in it, their results do."""
        return self.model_copy(update={"train": self.train.model_copy(update={"trackers": ()})})


def expanded(field: str, value: Any) -> Any:
    """Return a task or method given by name as the settings it stands for; anything else as it is.

    Raises:
        ConfigError: if the name is not known.
    """
    if field == "task" and isinstance(value, str):
        value = named_task(value)
    elif field == "method" and isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        return value
    if field == "task" and "kind" not in value and isinstance(value.get("name"), str):
        value = {**named_task(value["name"]), **value}
    kinds = TASKS if field == "task" else METHODS
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        found = f"no {field} {kind!r}" if kind else f"{field}: no `kind` is given"
        raise ConfigError(f"{found}; {nearest(str(kind), kinds)}")
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
    values: dict[str, Any] = {} if path is None else read_yaml(path)
    given = {name: value for name, value in (fields or {}).items() if value is not None}
    values |= copy.deepcopy(given)  # words set fields inside it
    for keys, value in map(parse_word, overrides):
        set_field(values, keys, value)
    return validate(RunConfig, values, str(path) if path else "configuration")


def set_field(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set one field of a configuration that is still plain values.

    Fields of a task or method are set on what its name stands for; on the default, if nothing is
    named. A task of a kind or path of one's own starts afresh.

    Raises:
        ConfigError: if the path leads into a field that has none.
    """
    first = path[0]
    if first in DEFAULTS and len(path) > 1:
        own = first == "task" and path[1] in ("kind", "path")
        base = values.get(first, {} if own else DEFAULTS[first])
        is_named = isinstance(base, str) or (
            isinstance(base, Mapping) and "name" in base and "kind" not in base
        )
        values[first] = copy.deepcopy(dict(expanded(first, base))) if is_named else base
    _set(values, path, value)


def fields_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the fields that `key=value` words set.

    Raises:
        ConfigError: if a word is none, or sets a field inside one that has none.
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
        values = load_yaml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not readable as YAML: {reason}") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(
            f"{path}: holds a {type(values).__name__}; `field: value` lines are needed"
        )
    return values or {}


def write_yaml(settings: Settings, path: Path) -> None:
    """Write settings complete, as the command that reads them takes them."""
    write_whole(path, dump_yaml(settings.model_dump(mode="json")))


def parse_word(override: str) -> tuple[list[str], Any]:
    """Return the dotted path and the YAML value of a `key=value` word."""
    key, separator, text = override.partition("=")
    if not separator or not all(key.split(".")):
        raise ConfigError(f"{override!r} is not key=value, such as train.epochs=2")
    try:
        return key.split("."), load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: the value is not readable as YAML") from error


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set one field, making the mappings on the way to it."""
    for depth, step in enumerate(path[:-1], start=1):
        if values.get(step) is None:
            values[step] = {}
        inner = values[step]
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(path)}: {'.'.join(path[:depth])} has no fields")
        values = inner
    values[path[-1]] = value
