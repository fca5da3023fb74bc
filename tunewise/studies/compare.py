"""What came of a study: a row per cell, which differ, and which to use.

The recommendation's rule: among the cells that are not shown to be worse than the best, the one
with the least cost. *Shown* is a paired test on the same test examples with a p-value below 0.05
after Holm's correction over all pairs of cells.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tunewise.config import read_yaml
from tunewise.errors import ConfigError
from tunewise.metrics import METRICS, Metric, Prediction
from tunewise.runs.folder import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    Line,
    read_error,
    read_lines,
    read_predictions,
    read_result,
)
from tunewise.runs.result import Result
from tunewise.settings import validate
from tunewise.studies.statistics import (
    Estimate,
    Scores,
    combined,
    cut,
    holm,
    mcnemar,
    over_seeds,
    scores,
)
from tunewise.studies.study import Cell, Cost, Study, grid
from tunewise.studies.trials import (
    STUDY,
    Candidate,
    candidates_of,
    planned_seeds,
    winner,
)

SIGNIFICANT = 0.05
NEAR_END = 0.05
"""The share of a search's interval that counts as its end."""
COSTS: dict[Cost, str] = {
    "trainable": "trainable parameters",
    "memory": "peak memory",
    "time": "seconds per epoch",
}
"""What each cost is called."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run, as its folder has it."""

    folder: Path
    result: Result
    predictions: list[Prediction]
    """Of the test split."""
    lines: list[Line]
    """The lines of metrics.jsonl: updates, and evaluations on validation data."""


@dataclass(frozen=True)
class Row:
    """What came of one cell."""

    cell: Cell
    runs: list[StoredRun]
    """One per seed that has finished."""
    candidates: list[Candidate]
    winner: Candidate | None
    edges: list[str]
    """The tuned fields whose winning value is the first or last of its range."""
    failures: list[str]
    """Why candidates and seeds failed."""
    metrics: dict[str, Estimate]
    """On the test split: over seeds, or, with one seed, over test examples."""

    @property
    def name(self) -> str:
        """The cell's."""
        return self.cell.name

    def cost(self, kind: Cost) -> float:
        """Return trainable parameters, bytes or seconds per epoch; the mean over seeds."""
        of: dict[Cost, Callable[[Result], float]] = {
            "trainable": lambda result: result.parameters.trainable,
            "memory": lambda result: result.memory.peak_bytes,
            # What frozen blocks put out is computed once, for all epochs.
            "time": lambda result: (
                (result.time.train_seconds + result.time.frozen_seconds)
                / max(1, len(result.time.epoch_seconds))
            ),
        }
        return fmean(of[kind](run.result) for run in self.runs) if self.runs else math.nan

    def mean(self, of: Callable[[Result], float]) -> float:
        """Return the mean over seeds of some figure of a result."""
        return fmean(of(run.result) for run in self.runs) if self.runs else math.nan


@dataclass(frozen=True)
class Pair:
    """Two cells on the same test examples."""

    first: str
    second: str
    difference: Estimate
    """First minus second."""
    test: str
    """Which test: McNemar's, or the paired bootstrap."""
    p: float
    corrected: float
    """By Holm's method over all pairs of the study."""

    @property
    def is_shown(self) -> bool:
        """Whether a difference is shown."""
        return self.corrected < SIGNIFICANT


@dataclass(frozen=True)
class Effect:
    """One value of an axis: the mean over all cells that have it."""

    axis: str
    value: str
    cells: list[str]
    estimate: Estimate


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows."""

    folder: Path
    study: Study
    metric: Metric
    """What the cells are compared by, on the test split."""
    rows: list[Row]
    """In the order of the study, those without a finished run included."""
    pairs: list[Pair]
    effects: list[Effect]
    best: Row | None
    """With the best mean; None if nothing has finished."""
    not_worse: list[Row]
    """The best, and the rows not shown to be worse, in the order of the study."""
    recommended: Row | None
    """The one of them with the least cost."""

    def pair(self, first: str, second: str) -> Pair | None:
        """Return the comparison of two cells, in the order they are asked for."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.second, pair.first) == (first, second):
                d = pair.difference
                turned = Estimate(-d.mean, -d.high, -d.low)
                return Pair(first, second, turned, pair.test, pair.p, pair.corrected)
        return None


def compare(folder: Path) -> Comparison:
    """Return the comparison of a study's folder; what has not finished is left out of it.

    Raises:
        ConfigError: if it is not the folder of a study, or its runs answered different examples.
    """
    if not (folder / STUDY).is_file():
        raise ConfigError(f"{folder}: has no {STUDY}, so it is not the folder of a study")
    study = validate(Study, read_yaml(folder / STUDY), str(folder / STUDY))
    cells = study.cells()
    metric = METRICS[cells[0].config.metric]
    rows = [_row(study, cell, folder) for cell in cells]
    done = [row for row in rows if row.runs]
    _check_same_examples(done)
    measured = {row.name: scores(metric, [run.predictions for run in row.runs]) for row in done}
    pairs = _pairs(done, measured, metric)
    sign = 1 if metric.higher_is_better else -1
    best = max(done, key=lambda row: sign * measured[row.name].mean, default=None)
    not_worse = [row for row in done if best and not _is_worse(row, best, pairs)]
    return Comparison(
        folder=folder,
        study=study,
        metric=metric,
        rows=rows,
        pairs=pairs,
        effects=_effects(study, done, measured, metric),
        best=best,
        not_worse=not_worse,
        recommended=min(not_worse, key=lambda row: row.cost(study.cost), default=None),
    )


def _row(study: Study, cell: Cell, folder: Path) -> Row:
    candidates = candidates_of(study, cell, folder)
    best = winner(cell, candidates)
    runs = []
    failed = [
        f"{candidate.name}: {read_error(candidate.folder)}"
        for candidate in candidates
        if candidate.status == "failed"
    ]
    for planned in planned_seeds(study, cell, folder):
        if (result := read_result(planned.folder)) is not None:
            runs.append(_stored(planned.folder, result))
        elif (error := read_error(planned.folder)) is not None:
            failed.append(f"seed {planned.config.seed}: {error}")
    return Row(cell, runs, candidates, best, _edges(study, best), failed, _metrics(runs))


def _stored(folder: Path, result: Result) -> StoredRun:
    """Return a finished run; raise ConfigError if its files are not of one run."""
    predictions = read_predictions(folder / PREDICTIONS_FILE)
    lines = read_lines(folder / METRICS_FILE)
    test = result.data.get("test")
    if test is None or "test" not in result.metrics or test.examples != len(predictions):
        raise ConfigError(f"{folder}: {RESULT_FILE} and {PREDICTIONS_FILE} do not go together")
    return StoredRun(folder, result, predictions, lines)


def _metrics(runs: Sequence[StoredRun]) -> dict[str, Estimate]:
    """Return every metric of the test split: over seeds, or with one seed over examples."""
    if not runs:
        return {}
    names = [name for name in runs[0].result.metrics["test"]]
    estimates = {}
    for name in names:
        values = np.array([run.result.metrics["test"].get(name, math.nan) for run in runs])
        if len(runs) > 1:
            bounds = METRICS[name].bounds if name in METRICS else (0.0, 100.0)  # a judge's scale
            estimates[name] = over_seeds(values, bounds)
        else:
            low, high = runs[0].result.intervals["test"].get(name, (math.nan, math.nan))
            estimates[name] = Estimate(float(values[0]), low, high)
    return estimates


def _edges(study: Study, best: Candidate | None) -> list[str]:
    """Return the fields whose winning value lies at the end of its range: it may be too narrow."""
    values = {} if best is None else best.overrides
    return [path for path, value in values.items() if _is_at_end(study, path, value)]


def _is_at_end(study: Study, path: str, value: Any) -> bool:
    if study.search and (space := study.search.space[path]).choices is None:
        assert space.low is not None and space.high is not None
        scale = math.log if space.log else float
        low, high, here = scale(space.low), scale(space.high), scale(value)
        return not NEAR_END <= (here - low) / (high - low) <= 1 - NEAR_END
    tried = space.choices if study.search else [point[path] for point in grid(study.tune)]
    numbers = [other for other in tried or () if type(other) in (int, float)]
    return len(set(numbers)) > 1 and value in (min(numbers), max(numbers))


def _check_same_examples(rows: Sequence[Row]) -> None:
    """Return if all runs answered the same test examples.

    Raises:
        ConfigError: if two did not.
    """
    answered: dict[tuple[tuple[str, str], ...], StoredRun] = {}
    for run in (run for row in rows for run in row.runs):
        answered.setdefault(tuple((p.example_id, p.expected) for p in run.predictions), run)
    if len(answered) > 1:
        first, second, *_ = answered.values()
        raise ConfigError(
            f"{first.folder} and {second.folder} answered different test examples, so their "
            "figures cannot be compared; run one of them again on the same rows"
        )


def _pairs(rows: Sequence[Row], measured: Mapping[str, Scores], metric: Metric) -> list[Pair]:
    """Return all pairs of rows with their tests, corrected for the number of pairs."""
    found: dict[tuple[str, str], tuple[Estimate, str, float]] = {}
    for first, second in combinations(rows, 2):
        parts = [(1.0, measured[first.name]), (-1.0, measured[second.name])]
        difference, p = combined(parts)
        name = "paired bootstrap"
        if metric.name == "accuracy" and len(first.runs) == len(second.runs) == 1:
            p, name = mcnemar(_right(first), _right(second)), "McNemar"
        found[first.name, second.name] = difference, name, p
    corrected = holm({pair: p for pair, (_, _, p) in found.items()})
    return [
        Pair(*names, difference, test, p, corrected[names])
        for names, (difference, test, p) in found.items()
    ]


def _right(row: Row) -> list[bool]:
    return [p.expected == p.predicted for p in row.runs[0].predictions]


def _is_worse(row: Row, best: Row, pairs: Sequence[Pair]) -> bool:
    """Return whether a row is shown to be worse than the best."""
    names = {row.name, best.name}
    return any({pair.first, pair.second} == names and pair.is_shown for pair in pairs)


def _effects(
    study: Study, rows: Sequence[Row], measured: Mapping[str, Scores], metric: Metric
) -> list[Effect]:
    """Return the mean over cells of each value of each axis."""
    effects = []
    for axis in study.axes():
        for value in dict.fromkeys(study.value_on(axis, row.cell) for row in rows):
            members = [row.name for row in rows if study.value_on(axis, row.cell) == value]
            parts = [(1 / len(members), measured[name]) for name in members]
            estimate = cut(combined(parts)[0], metric.bounds)
            effects.append(Effect(axis, value, members, estimate))
    return effects
