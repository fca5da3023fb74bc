"""A study: which set-ups are compared, with which budget and how many seeds.

A *cell* is one set-up that is compared: a choice on every axis of the grid. It is run once per
seed; before that, its *candidates* may be tried, each with one seed, judged on validation data.
"""

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tunewise.config import RunConfig, parse_word, read_yaml, set_field
from tunewise.errors import ConfigError
from tunewise.settings import Settings, validate

Overrides = dict[str, Any]
"""Values of a configuration's fields, by their dotted paths."""

Cost = Literal["trainable", "memory", "time"]


class Range(Settings):
    """The values that a search may choose for a field: an interval, or a list."""

    low: int | float | None = None
    """The least; an interval between two whole numbers is one of whole numbers."""
    high: int | float | None = None
    log: bool = False
    """Whether every factor is as likely as every other, as suits a learning rate."""
    choices: list[Any] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _is_an_interval_or_a_list(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("either `low` and `high`, or `choices`")
        elif self.low is None or self.high is None:
            raise ValueError("`low` and `high` are needed, or `choices`")
        elif not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("`low` must be below `high`, and above 0 with `log`")
        return self


class Search(Settings):
    """Candidates chosen one after the other, by Optuna, from what came of those before."""

    space: dict[str, Range] = Field(min_length=1)
    """The fields to choose values for, by their dotted paths."""
    trials: int = Field(gt=0)
    """Candidates per cell: the same budget for each."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Tree-structured Parzen estimator, or chance."""
    pruner: Literal["none", "median", "halving"] = "none"
    """What stops a poor candidate early, at an evaluation: nothing; a value worse than the median
    of those before; successive halving."""
    storage: str | None = None
    """A database URL for Optuna; without it, SQLite in the study's folder."""


class NamedRun(Settings):
    """One entry of `runs`: the fields it sets, and what it is called."""

    name: str = ""
    fields: Overrides = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _every_other_key_is_a_field(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        others = {key: value for key, value in values.items() if key not in ("name", "fields")}
        fields = values.get("fields", {})
        merged = {**fields, **others} if isinstance(fields, Mapping) else fields
        return {"name": values.get("name", ""), "fields": merged}


class Study(Settings):
    """One question, asked of several set-ups on equal terms."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """What it is called; its folder is runs/NAME unless --out says."""
    description: str = ""
    """The question, in a line or two."""
    base: dict[str, Any] = Field(default_factory=dict)
    """The configuration that all cells share."""
    runs: list[NamedRun] = Field(default_factory=list)
    """Set-ups given one by one: a name and the fields that make the difference."""
    vary: dict[str, list[Any]] = Field(default_factory=dict)
    """A grid: each field's values, by its dotted path. `a, b: [[1, 2], [3, 4]]` sets two fields
    together. With `runs`, every one of them is taken at every point of the grid."""
    tune: dict[str, list[Any]] = Field(default_factory=dict)
    """A grid of candidates, the same for each cell; validation data choose among them."""
    search: Search | None = None
    """In place of `tune`: candidates chosen by Optuna."""
    seeds: int = Field(default=1, gt=0)
    """How often each cell is run: with the seeds base.seed, base.seed + 1, ..."""
    cost: Cost = "trainable"
    """What is to be low where quality is not shown to differ: trainable parameters, peak memory, or
    time per epoch."""
    source: str = ""
    """Where the published figures come from."""
    published: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Figures to show beside the measured ones: cell, then metric."""

    @field_validator("vary", "tune")
    @classmethod
    def _axes_have_values(cls, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in axes.items():
            paths = _paths(key)
            if not values:
                raise ValueError(f"{key}: a list of values is needed")
            for value in values if len(paths) > 1 else ():
                if not isinstance(value, list) or len(value) != len(paths):
                    raise ValueError(f"{key}: {value!r} is not a list of {len(paths)} values")
        return axes

    @model_validator(mode="after")
    def _candidates_come_one_way(self) -> Self:
        if self.tune and self.search:
            raise ValueError("either `tune` or `search`")
        return self

    def cells(self) -> list["Cell"]:
        """Return the cells, in the order of `runs` and of the grid, whose first axis is slowest.

        Raises:
            ConfigError: if one cannot be run; if two have one name; if their tasks differ.
        """
        cells = [
            self._cell(run, point) for run in self.runs or [NamedRun()] for point in grid(self.vary)
        ]
        names = [cell.name for cell in cells]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"study {self.name}: two cells are called {twice[0]!r}")
        tasks = {cell.config.task.name: cell.name for cell in cells}
        if len(tasks) > 1:
            raise ConfigError(
                f"study {self.name}: cells {' and '.join(map(repr, tasks.values()))} have "
                "different tasks, whose figures cannot be compared; write a study for each"
            )
        if unknown := [name for name in self.published if name not in names]:
            raise ConfigError(
                f"study {self.name}: published: no cell is called {unknown[0]!r}; "
                f"the cells are {', '.join(map(repr, names))}"
            )
        return cells

    def _cell(self, run: NamedRun, point: Overrides) -> "Cell":
        title = run.name or title_of(run.fields)
        name = ", ".join(filter(None, [title, title_of(point)])) or "base"
        overrides = {**run.fields, **point}
        return Cell(name, overrides, self.config(name, overrides), title)

    def axes(self) -> list[str]:
        """Return the axes along which cells differ: `run`, and those of the grid."""
        return ["run"] * (len(self.runs) > 1) + [
            key for key in self.vary if len(self.vary[key]) > 1
        ]

    def value_on(self, axis: str, cell: "Cell") -> str:
        """Return what a cell's place on an axis is called."""
        if axis == "run":
            return cell.run
        return title_of({path: cell.overrides[path] for path in _paths(axis)})

    def config(self, name: str, *overrides: Overrides) -> RunConfig:
        """Return the base configuration with some fields set, for the cell of this name.

        Raises:
            ConfigError: if it is none.
        """
        where = f"study {self.name}: {name}"
        values = copy.deepcopy(self.base)
        for fields in overrides:
            for path, value in fields.items():
                try:
                    set_field(values, path.split("."), copy.deepcopy(value))
                except ConfigError as error:
                    raise ConfigError(f"{where}: {error}") from error
        return validate(RunConfig, values, where)

    def candidates(self, cell: "Cell") -> list["Cell"]:
        """Return the cell with each candidate's fields set."""
        return [
            Cell(title_of(point), point, self.config(cell.name, cell.overrides, point))
            for point in grid(self.tune)
            if point
        ]


@dataclass(frozen=True)
class Cell:
    """One set-up that is compared, or one candidate for it."""

    name: str
    overrides: Overrides
    """What makes it differ from the base."""
    config: RunConfig
    run: str = ""
    """The entry of `runs` that it comes from."""

    def with_seed(self, number: int) -> RunConfig:
        """Return the configuration of its n-th seed, from 0."""
        return self.config.model_copy(update={"seed": self.config.seed + number})


def read_study(path: Path, words: Sequence[str] = ()) -> Study:
    """Return the study in a YAML file, with `key=value` words set.

    A word sets a field of the study (`seeds=1`), or one of the configuration for all cells
    (`model=pocket`); an axis over that field is dropped.

    Raises:
        ConfigError: one line that names the file and the field.
    """
    values = read_yaml(path)
    fixed: list[tuple[list[str], Any]] = []
    for word in words:
        keys, value = parse_word(word)
        if keys[0] in ("vary", "tune") and len(keys) > 1:
            set_field(values, [keys[0], ".".join(keys[1:])], value)
        elif keys[0] in Study.model_fields:
            set_field(values, keys, value)
        else:
            fixed.append((keys, value))
    study = validate(Study, values, str(path))
    return _with_fixed(study, fixed) if words else study


def _with_fixed(study: Study, fixed: Sequence[tuple[list[str], Any]]) -> Study:
    """Return a study in which fields have one value for all cells; an axis over one is dropped."""
    base = copy.deepcopy(study.base)
    for keys, value in fixed:
        set_field(base, keys, value)
    paths = {".".join(keys) for keys, _ in fixed}
    runs = [
        run.model_copy(update={"fields": {k: v for k, v in run.fields.items() if k not in paths}})
        for run in study.runs
    ]
    axes = {
        name: {
            key: values
            for key, values in getattr(study, name).items()
            if not paths.intersection(_paths(key))
        }
        for name in ("vary", "tune")
    }
    fewer = study.model_copy(update={"base": base, "runs": runs, **axes, "published": {}})
    names = {cell.name for cell in fewer.cells()}
    # Figures of another model or task say nothing about this one.
    same = not paths & {"model", "task"}
    published = {k: some for k, some in study.published.items() if same and k in names}
    return fewer.model_copy(update={"published": published})


def grid(axes: Mapping[str, list[Any]]) -> list[Overrides]:
    """Return every choice of one value on each axis; the first axis changes slowest."""
    points: list[Overrides] = []
    for choice in product(*axes.values()):
        point: Overrides = {}
        for key, value in zip(axes, choice, strict=True):
            paths = _paths(key)
            point |= zip(paths, value if len(paths) > 1 else [value], strict=True)
        points.append(point)
    return points


def title_of(overrides: Overrides) -> str:
    """Return what a choice of values is called: `rank=4, blocks=last-18`."""
    return ", ".join(
        _title(str(path).rpartition(".")[2], value) for path, value in overrides.items()
    )


def folder_name(name: str, config: RunConfig) -> str:
    """Return the name of a run's folder: its overrides and seed, and a hash of its configuration.

    A study file that has changed therefore runs what has changed in new folders, and nothing else.
    Defaults are not in the hash, so that a setting that is new in a version changes no name.
    """
    readable = re.sub(r"[^\w.=+-]+", "_", name)[:80].strip("_.")
    values = config.deciding.model_dump(mode="json", exclude_defaults=True)
    if "frozen_cache" in values.get("train", {}):  # by its name when folders were first named
        values["train"]["prefix_cache"] = values["train"].pop("frozen_cache")
    values["kinds"] = config.task.kind, config.method.kind
    text = json.dumps(values, sort_keys=True)
    return f"{readable}_seed={config.seed}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _title(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        # {kind: lora, rank: 4} is "lora, rank=4": a kind needs no name.
        fields = {key: inner for key, inner in value.items() if key != "kind"}
        return ", ".join(filter(None, [str(value.get("kind", "")), title_of(fields)]))
    if name in ("method", "task", "model"):
        return Path(str(value)).name
    if isinstance(value, list):
        value = "+".join(map(str, value))
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def _paths(key: str) -> list[str]:
    """Return the dotted paths that an axis sets together."""
    return [path.strip() for path in key.split(",")]
