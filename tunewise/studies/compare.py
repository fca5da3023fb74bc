"""Comparison of a study's cells: their metrics and costs, which differ, and which to use.

The rule of the recommendation: among the cells that are not significantly worse than the best, the
one with the lowest cost. A difference is *significant* if a paired test on the same test examples
has a p-value below 0.05 after Holm's correction over all pairs of cells.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tunewise.config import read_yaml
from tunewise.errors import ConfigError, first_of
from tunewise.metrics import METRICS, Metric, Prediction
from tunewise.runs.folder import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    Line,
    read_lines,
    read_predictions,
    read_result,
)
from tunewise.runs.origin import read_origin
from tunewise.runs.predict_split import rows_not_finite
from tunewise.runs.result import Result
from tunewise.settings import validate
from tunewise.studies.statistics import (
    Interval,
    Measurement,
    Term,
    combine,
    holm,
    interval_over_seeds,
    mcnemar,
    measure,
)
from tunewise.studies.study import Cell, Cost, Study
from tunewise.studies.trials import (
    STUDY_FILE,
    Trial,
    candidates_of,
    find_edges,
    find_winner,
    seeds_of,
)

SIGNIFICANT = 0.05
"""Corrected p-value below which a difference is significant."""
JUDGE_BOUNDS = 0.0, 100.0
"""Scale of a judge's scores, which are not in METRICS."""
COSTS: dict[Cost, str] = {
    "trainable": "trainable parameters",
    "memory": "peak memory",
    "time": "seconds per epoch",
}
"""Name of each cost in a report."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run, read from its folder."""

    folder: Path
    result: Result
    predictions: list[Prediction]
    """One per example of the test split."""
    lines: list[Line]
    """The lines of metrics.jsonl: updates, and evaluations on validation data."""


@dataclass(frozen=True)
class CellResult:
    """The results of one cell."""

    cell: Cell
    runs: list[StoredRun]
    """One per seed that has finished."""
    candidates: list[Trial]
    winner: Trial | None
    """The best candidate."""
    edges: list[str]
    """The tuned fields whose winning value is the first or last of its range."""
    num_open: int
    """Number of candidates and seeds that have neither finished nor failed."""
    failures: list[str]
    """The errors of candidates and seeds that failed, a line each."""
    metrics: dict[str, Interval]
    """Each metric of the test split: over seeds, or with one seed over test examples."""

    @property
    def name(self) -> str:
        """The name of the cell."""
        return self.cell.name

    def cost(self, kind: Cost) -> float:
        """Return trainable parameters, bytes or seconds per epoch; the mean over seeds."""
        return self.mean(lambda result: _cost_of(kind, result))

    def mean(self, figure: Callable[[Result], float]) -> float:
        """Return the mean over seeds of a figure of the results; nan if no seed has finished."""
        return fmean(figure(run.result) for run in self.runs) if self.runs else math.nan


@dataclass(frozen=True)
class Pair:
    """The comparison of two cells on the same test examples."""

    first: str
    second: str
    difference: Interval
    """First minus second."""
    test: str
    """Name of the test: McNemar's, or the paired bootstrap."""
    p: float
    corrected: float
    """The p-value corrected by Holm's method over all pairs of the study."""

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant."""
        return self.corrected < SIGNIFICANT


@dataclass(frozen=True)
class Effect:
    """One value of an axis: the mean over all cells that have it."""

    axis: str
    value: str
    cells: list[str]
    """Names of the cells that have the value."""
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """The comparison of a study's cells: everything that a report shows."""

    folder: Path
    study: Study
    metric: Metric
    """The metric by which cells are compared, on the test split."""
    rows: list[CellResult]
    """All cells in the order of the study, those without a finished run included."""
    pairs: list[Pair]
    effects: list[Effect]
    best: CellResult | None
    """The cell with the best mean; None if nothing has finished."""
    not_worse: list[CellResult]
    """The best, and those not significantly worse, in the order of the study."""
    recommended: CellResult | None
    """The one of `not_worse` with the lowest cost; None as long as something is still to be run."""

    def pair(self, first: str, second: str) -> Pair | None:
        """Return the comparison of two cells by name, as first minus second."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.second, pair.first) == (first, second):
                difference = pair.difference.negate()
                return replace(pair, first=first, second=second, difference=difference)
        return None


def compare(folder: Path) -> Comparison:
    """Return the comparison of a study's cells, by the runs in its folder that have finished.

    Raises:
        ConfigError: if it is not the folder of a study, or its runs have different test examples.
    """
    path = folder / STUDY_FILE
    if not path.is_file():
        if not folder.exists():
            raise ConfigError(f"{folder}: no such folder; `tunewise list runs` shows what is there")
        raise ConfigError(f"{folder}: has no {STUDY_FILE}, so it is not the folder of a study")
    study = validate(Study, read_yaml(path), str(path))
    cells = study.cells()
    metric = METRICS[cells[0].config.metric]
    rows = [_read_cell(study, cell, folder, metric) for cell in cells]
    done = [row for row in rows if row.runs]
    _check_same_examples(done)
    measured = {row.name: measure(metric, [run.predictions for run in row.runs]) for row in done}
    pairs = _compare_pairs(done, measured, metric)
    sign = 1 if metric.higher_is_better else -1
    best = max(done, key=lambda row: sign * measured[row.name].mean, default=None)
    not_worse = [row for row in done if best and not _is_worse(row, best, pairs)]
    chosen = min(not_worse, key=lambda row: row.cost(study.cost), default=None)
    return Comparison(
        folder=folder,
        study=study,
        metric=metric,
        rows=rows,
        pairs=pairs,
        effects=_average_axes(study, done, measured, metric),
        best=best,
        not_worse=not_worse,
        recommended=None if any(row.num_open for row in rows) else chosen,
    )


def _read_cell(study: Study, cell: Cell, folder: Path, metric: Metric) -> CellResult:
    candidates = candidates_of(study, cell, folder)
    seeds = seeds_of(study, cell, folder)
    winner = find_winner(cell, candidates)
    finished = {t.name: _read_run(t.folder) for t in seeds if t.status == "finished"}
    problems = {name: _problem(run, metric) for name, run in finished.items()}
    runs = [run for name, run in finished.items() if not problems[name]]
    return CellResult(
        cell=cell,
        runs=runs,
        candidates=candidates,
        winner=winner,
        edges=find_edges(study, winner),
        num_open=sum(trial.status == "open" for trial in [*candidates, *seeds]),
        failures=[
            f"{trial.name}: {trial.error}"
            for trial in [*candidates, *seeds]
            if trial.status == "failed"
        ]
        + [f"{name}: {problem}" for name, problem in problems.items() if problem],
        metrics=_metrics_of(runs),
    )


def _read_run(folder: Path) -> StoredRun:
    """Return a finished run.

    Raises:
        ConfigError: if its files are not of one run.
    """
    result = read_result(folder)
    predictions = read_predictions(folder / PREDICTIONS_FILE)
    lines = read_lines(folder / METRICS_FILE)
    assert result is not None
    test = result.data.get("test")
    if test is None or "test" not in result.metrics or test.examples != len(predictions):
        raise ConfigError(f"{folder}: {RESULT_FILE} and {PREDICTIONS_FILE} do not belong together")
    return StoredRun(folder, result, predictions, lines)


def _problem(run: StoredRun, metric: Metric) -> str:
    """Return why a run cannot be compared; "" if it can."""
    if rows := rows_not_finite(run.predictions):
        return f"the model's outputs are not finite for {first_of(rows)}, so it is not compared"
    if not math.isfinite(metric.compute(run.predictions)):
        return f"its {metric.name} is not finite, so it is not compared"
    return ""


def _metrics_of(runs: Sequence[StoredRun]) -> dict[str, Interval]:
    """Return every metric of the test split: over seeds, or with one seed over examples."""
    if not runs:
        return {}
    first = runs[0].result
    if len(runs) == 1:
        intervals = first.intervals["test"]
        return {
            name: Interval(value, *intervals.get(name, (math.nan, math.nan)))
            for name, value in first.metrics["test"].items()
        }
    metrics = {}
    for name in first.metrics["test"]:
        values = np.array([run.result.metrics["test"].get(name, math.nan) for run in runs])
        bounds = METRICS[name].bounds if name in METRICS else JUDGE_BOUNDS
        metrics[name] = interval_over_seeds(values, bounds)
    return metrics


def _cost_of(kind: Cost, result: Result) -> float:
    if kind == "trainable":
        return result.parameters.trainable
    if kind == "memory":
        return result.memory.peak_bytes
    # The output of frozen blocks is computed once, for all epochs.
    seconds = result.time.train_seconds + result.time.frozen_seconds
    return seconds / max(1, len(result.time.epoch_seconds))


def _check_same_examples(rows: Sequence[CellResult]) -> None:
    """Raise ConfigError unless all runs have the same test examples."""
    runs = [run for row in rows for run in row.runs]
    origins = [read_origin(run.folder) for run in runs]
    tasks = {run.result.config.task.model_dump_json() for run in runs}
    first_by_examples: dict[Any, StoredRun] = {}
    for run, origin in zip(runs, origins, strict=True):
        examples = tuple((p.id, p.expected) for p in run.predictions)
        # One task makes the same texts of the same rows; folders of old versions have no hash.
        is_comparable = len(tasks) == 1 and None not in origins
        texts = origin.rows.get("test") if origin and is_comparable else None
        first_by_examples.setdefault((examples, texts), run)
    if len(first_by_examples) > 1:
        first, second, *_ = first_by_examples.values()
        raise ConfigError(
            f"{first.folder} and {second.folder} have different test examples, so their "
            "figures cannot be compared; run one of them again on the same rows"
        )


def _compare_pairs(
    rows: Sequence[CellResult], measured: Mapping[str, Measurement], metric: Metric
) -> list[Pair]:
    """Return all pairs of cells with their tests, corrected for the number of pairs."""
    pairs = [
        _compare_two(first, second, measured, metric) for first, second in combinations(rows, 2)
    ]
    corrected = holm({(pair.first, pair.second): pair.p for pair in pairs})
    return [replace(pair, corrected=corrected[pair.first, pair.second]) for pair in pairs]


def _compare_two(
    first: CellResult, second: CellResult, measured: Mapping[str, Measurement], metric: Metric
) -> Pair:
    """Return the comparison of two cells, with a p-value that is not corrected yet."""
    terms = [Term(1.0, measured[first.name]), Term(-1.0, measured[second.name])]
    difference, p = combine(terms)
    test = "paired bootstrap"
    if metric.is_right is not None and len(first.runs) == len(second.runs) == 1:
        right, also_right = (
            [metric.is_right(prediction) for prediction in row.runs[0].predictions]
            for row in (first, second)
        )
        p, test = mcnemar(right, also_right), "McNemar"
    return Pair(first.name, second.name, difference, test, p, corrected=p)


def _is_worse(row: CellResult, best: CellResult, pairs: Sequence[Pair]) -> bool:
    """Return whether a cell is significantly worse than the best."""
    names = {row.name, best.name}
    return any({pair.first, pair.second} == names and pair.is_significant for pair in pairs)


def _average_axes(
    study: Study,
    rows: Sequence[CellResult],
    measured: Mapping[str, Measurement],
    metric: Metric,
) -> list[Effect]:
    """Return the mean over cells at each value of each axis."""
    effects = []
    for axis in study.axes():
        for value in dict.fromkeys(study.value_on(axis, row.cell) for row in rows):
            names = [row.name for row in rows if study.value_on(axis, row.cell) == value]
            mean, _ = combine([Term(1 / len(names), measured[name]) for name in names])
            effects.append(Effect(axis, value, names, mean.clip(metric.bounds)))
    return effects
