"""A study: which set-ups are compared, with which budget and how many seeds.

A *cell* is one set-up that is compared: a choice on every axis of the grid. It is run once per
seed; before that, its *candidates* may be tried, each with one seed, judged on validation data.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tunewise.config import RunConfig, set_field
from tunewise.errors import ConfigError
from tunewise.settings import Settings, validate
from tunewise.studies.overrides import Overrides, grid, paths_of, title_of
from tunewise.studies.set_once import Setting, field_of, refuse_overwritten

Cost = Literal["trainable", "memory", "time"]


class Range(Settings):
    """The values that a search may choose for a field: an interval, or a list."""

    low: int | float | None = None
    """Smallest value; if `low` and `high` are whole numbers, only whole numbers are chosen."""
    high: int | float | None = None
    """Largest value."""
    log: bool = False
    """Whether values are drawn evenly on a logarithmic scale, as suits a learning rate."""
    choices: list[Any] | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _is_no_bare_list(cls, values: Any) -> Any:
        if isinstance(values, list):
            raise ValueError(f"write {{choices: {values}}}, or {{low: ..., high: ...}}")
        return values

    @model_validator(mode="after")
    def _is_an_interval_or_a_list(self) -> Self:
        if self.choices is not None:
            _refuse_twice("choices", self.choices)
            if self.low is not None or self.high is not None:
                raise ValueError("give either `low` and `high`, or `choices`")
        elif self.low is None or self.high is None:
            raise ValueError("`low` and `high` are needed, or `choices`")
        elif not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("`low` must be below `high`, and above 0 with `log`")
        return self


class Search(Settings):
    """Candidates chosen by Optuna, one after the other, from the results of those before."""

    space: dict[str, Range] = Field(min_length=1)
    """Values to choose for each field, by its dotted path."""
    trials: int = Field(gt=0)
    """Candidates per cell: the same budget for each."""
    sampler: Literal["tpe", "random"] = "tpe"
    """The way values are chosen: by a tree-structured Parzen estimator, or at random."""
    pruner: Literal["none", "median", "halving"] = "none"
    """When a poor candidate is stopped early, at an evaluation: never (`none`), if its value is
    worse than the median of the candidates before it, or by successive halving."""
    storage: str | None = None
    """Database URL for Optuna; without it, SQLite in the study's folder."""


class SetUp(Settings):
    """One entry of `runs`: a name, and the fields that it sets."""

    name: str = ""
    """Name of the cell; without it, the cell is named by its fields."""
    fields: Overrides = Field(default_factory=dict)
    """Values of the fields, by their dotted paths."""

    @model_validator(mode="before")
    @classmethod
    def _every_other_key_is_a_field(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        others = {key: value for key, value in values.items() if key not in ("name", "fields")}
        fields = values.get("fields", {})
        if not isinstance(fields, Mapping):
            return {"name": values.get("name", ""), "fields": fields}
        if twice := sorted(map(str, fields.keys() & others.keys())):
            raise ValueError(f"{twice[0]} is given twice, in `fields` and beside it")
        merged = {**fields, **others}
        return {"name": values.get("name", ""), "fields": merged}


class Study(Settings):
    """One question, asked of several set-ups on equal terms."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """Name of the study; its folder is runs/NAME unless --out names another."""
    description: str = ""
    """The question, in a line or two."""
    base: dict[str, Any] = Field(default_factory=dict)
    """The configuration that all cells share."""
    runs: list[SetUp] = Field(default_factory=list)
    """Set-ups given one by one: a name, and the fields in which it differs from the base."""
    vary: dict[str, list[Any]] = Field(default_factory=dict)
    """A grid: the values of each field, by its dotted path. `a, b: [[1, 2], [3, 4]]` sets two
    fields together. With `runs`, each of them is combined with every point of the grid."""
    tune: dict[str, list[Any]] = Field(default_factory=dict)
    """A grid of candidates, the same for each cell; the best on validation data is used."""
    search: Search | None = None
    """In place of `tune`: candidates chosen by Optuna."""
    keep_candidates: bool = False
    """Whether candidates keep their trained weights; the winner's runs always do."""
    seeds: int = Field(default=1, gt=0)
    """Number of runs of each cell, with the seeds base.seed, base.seed + 1, ..."""
    cost: Cost = "trainable"
    """The cost that decides among cells without a significant difference in quality: trainable
    parameters, peak memory, or time per epoch."""
    source: str = ""
    """Source of the published figures."""
    published: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Figures to show beside the measured ones: cell, then metric."""

    @field_validator("vary", "tune")
    @classmethod
    def _axes_have_values(cls, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in axes.items():
            if not values:
                raise ValueError(f"{key}: a list of values is needed")
            _refuse_twice(key, values)
            num_paths = len(paths_of(key))
            if num_paths == 1:
                continue
            for value in values:
                if not isinstance(value, list) or len(value) != num_paths:
                    raise ValueError(f"{key}: {value!r} is not a list of {num_paths} values")
        return axes

    @model_validator(mode="after")
    def _candidates_come_one_way(self) -> Self:
        if self.tune and self.search:
            raise ValueError("give either `tune` or `search`")
        return self

    @model_validator(mode="after")
    def _each_field_is_set_once(self) -> Self:
        for settings in self.settings():
            refuse_overwritten(settings)
            for setting in settings:
                if field_of(setting.path) == ("seed",):
                    self._refuse_seed(setting)
        return self

    def _refuse_seed(self, setting: Setting) -> None:
        if setting.part in ("`tune`", "`search`"):
            raise ValueError(
                f"{setting.part} sets seed: a seed is nothing to be tuned; to repeat each cell, "
                "give `seeds`"
            )
        if self.seeds > 1:
            raise ValueError(
                f"seed is set by {setting.part}, and `seeds` is {self.seeds}, which runs each cell "
                "with base.seed, base.seed + 1, ...; give one of them"
            )

    def settings(self) -> list[list[Setting]]:
        """Return the fields that the parts of the study set, in their order, by entry of `runs`."""
        points = [*_axis_settings("`vary`", self.vary), *_axis_settings("`tune`", self.tune)]
        points += [Setting("`search`", p, v.choices or [v.low]) for p, v in self.space.items()]
        made = []
        for entry in self.runs or [SetUp()]:
            part = f"`runs` ({entry.name!r})" if entry.name else "`runs`"
            made.append([*(Setting(part, path, [v]) for path, v in entry.fields.items()), *points])
        return made

    def cells(self) -> list["Cell"]:
        """Return the cells, in the order of `runs` and of the grid, whose first axis is slowest.

        Raises:
            ConfigError: if a configuration is invalid, if two cells have the same name, or if
                their tasks differ.
        """
        cells = [
            self._cell(entry, point)
            for entry in self.runs or [SetUp()]
            for point in grid(self.vary)
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

    def _cell(self, entry: SetUp, point: Overrides) -> "Cell":
        entry_name = entry.name or title_of(entry.fields)
        name = ", ".join(filter(None, [entry_name, title_of(point)])) or "base"
        overrides = {**entry.fields, **point}
        return Cell(name, overrides, self.config(name, overrides), entry_name)

    def axes(self) -> list[str]:
        """Return the axes along which cells differ: those of `vary`, after `run` for `runs`."""
        axes = [axis for axis, values in self.vary.items() if len(values) > 1]
        if len(self.runs) > 1:
            axes.insert(0, "run")
        return axes

    def value_on(self, axis: str, cell: "Cell") -> str:
        """Return the name of a cell's value on an axis."""
        if axis == "run":
            return cell.entry
        return title_of({path: cell.overrides[path] for path in paths_of(axis)})

    def candidates(self) -> list[Overrides]:
        """Return the points of the `tune` grid, the same for each cell; none without `tune`."""
        return grid(self.tune) if self.tune else []

    def possible_overrides(self) -> list[Overrides]:
        """Return what candidates may set: all of `tune`; of `search`, each choice and bound."""
        if self.search is None:
            return self.candidates() or [{}]
        values = {path: each.choices or [each.low, each.high] for path, each in self.space.items()}
        first = {path: of_field[0] for path, of_field in values.items()}
        return [first | {path: value} for path in values for value in values[path]]

    @property
    def space(self) -> dict[str, Range]:
        """The values that `search` may choose for each field; empty without it."""
        return self.search.space if self.search else {}

    def config(self, name: str, *overrides: Overrides) -> RunConfig:
        """Return the base configuration with some fields set.

        Args:
            name: the cell, for error messages.

        Raises:
            ConfigError: if it is not a valid configuration.
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


@dataclass(frozen=True)
class Cell:
    """One set-up that is compared."""

    name: str
    overrides: Overrides
    """The fields in which it differs from the base."""
    config: RunConfig
    entry: str = ""
    """Name of the entry of `runs` that it comes from."""

    def with_seed(self, number: int) -> RunConfig:
        """Return the configuration with the n-th seed, from 0."""
        return self.config.model_copy(update={"seed": self.config.seed + number})


def _axis_settings(part: str, axes: Mapping[str, list[Any]]) -> list[Setting]:
    """Return the fields that the axes of a grid set."""
    settings = []
    for axis, values in axes.items():
        paths = paths_of(axis)
        for number, path in enumerate(paths):
            of_path = values if len(paths) == 1 else [value[number] for value in values]
            settings.append(Setting(part, path, of_path))
    return settings


def _refuse_twice(axis: str, values: Sequence[Any]) -> None:
    """Raise ValueError if an axis has a value twice; 4 and 4.0 are one."""
    seen = set()
    for value in values:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        text = repr(float(value) if is_number else value)
        if text in seen:
            raise ValueError(f"{axis}: {value!r} is given twice")
        seen.add(text)
