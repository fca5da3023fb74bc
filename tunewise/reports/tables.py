"""The table of cells, once: the page, report.md and cells.csv show these columns."""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from tunewise.reports import words
from tunewise.studies.compare import Comparison, Row
from tunewise.studies.study import title_of

Value = str | float | int
"""What cells.csv holds; an empty text where there is nothing."""

PUBLISHED_COSTS = {
    "trainable": "trainable parameters",
    "peak_gb": "peak memory, GB",
    "epoch_minutes": "minutes per epoch",
}
"""Figures that a study may publish beside metrics."""


@dataclass(frozen=True)
class Column:
    """One column: a number per cell with its text, and the columns of cells.csv behind it."""

    title: str
    text: Callable[[Row], str]
    values: dict[str, Callable[[Row], Value]]
    """By their names in cells.csv; the first is what the column is sorted by."""
    is_measured_by_clock: bool = False
    """Whether another run of the same study may measure otherwise: time and memory."""
    is_words: bool = False


def columns(comparison: Comparison) -> list[Column]:
    """Return the columns, what decides first: the metric that cells are compared by, the costs."""
    found = [_verdict(comparison)]
    if comparison.study.tune or comparison.study.search:
        found.append(_text("chosen", "chosen", _chosen))
    first, *others = _metric_names(comparison)
    found.append(_metric(first))
    found += [_published(comparison, name) for name in _published_names(comparison)]
    found += [
        _number("trainable parameters", "trainable", lambda row: row.cost("trainable"), "{:,.0f}"),
        _number("% of all", "percent", _percent, "{:.3g}"),
        _clock("peak memory", "peak_bytes", lambda row: row.cost("memory"), words.bytes_of),
        _clock("per epoch", "epoch_seconds", lambda row: row.cost("time"), words.seconds_of),
        _clock("slowest epoch", "slowest_epoch_seconds", slowest_epoch, words.seconds_of),
        _clock("tokens/s", "tokens_per_second", _speed, "{:,.0f}".format),
        _number("best epoch", "best_epoch", lambda r: r.mean(lambda x: x.best.epoch), "{:.3g}"),
        _number("seeds", "seeds", lambda row: len(row.runs), "{:.0f}"),
    ]
    return found + [_metric(name) for name in others]


def slowest_epoch(row: Row) -> float:
    """Return the seconds of the slowest epoch of any seed."""
    seconds = (one for run in row.runs for one in run.result.time.epoch_seconds)
    return max(seconds, default=math.nan)


def cells_csv(comparison: Comparison) -> str:
    """Return the table with full precision: a line per cell."""
    ordered = sorted(columns(comparison), key=lambda column: column.is_measured_by_clock)
    fields = {name: value for column in ordered for name, value in column.values.items()}
    rows = [[row.name, *(value(row) for value in fields.values())] for row in comparison.rows]
    return _csv([["cell", *fields], *rows])


def pairs_csv(comparison: Comparison) -> str:
    """Return every comparison of two cells: a line each."""
    header = ["first", "second", "difference", "low", "high", "test", "p", "corrected_p"]
    rows: list[list[Value]] = [
        [
            *(pair.first, pair.second),
            *(pair.difference.mean, pair.difference.low, pair.difference.high),
            *(pair.test, pair.p, pair.corrected),
        ]
        for pair in comparison.pairs
    ]
    return _csv([header, *rows])


def effects_csv(comparison: Comparison) -> str:
    """Return the mean at each value of each axis: a line each."""
    rows: list[list[Value]] = [
        [effect.axis, effect.value, effect.estimate.mean, effect.estimate.low, effect.estimate.high]
        for effect in comparison.effects
    ]
    return _csv([["axis", "value", "mean", "low", "high"], *rows])


@dataclass(frozen=True)
class Class:
    """How one label fares with one cell."""

    label: str
    scores: dict[str, float]
    """Precision, recall, F1 and support of the test split; the mean over seeds."""
    predicted_as: dict[str, int]
    """How often each label was predicted where this one was expected; the sum over seeds."""


def by_class(row: Row) -> list[Class]:
    """Return how each label fares; nothing for a task without labels."""
    tables = [run.result.tables for run in row.runs if run.result.tables is not None]
    counts: Counter[tuple[str, str]] = Counter()
    for table in tables:
        labels, lines = table.confusion.labels, table.confusion.counts
        for expected, line in zip(labels, lines, strict=True):
            for predicted, count in zip(labels, line, strict=True):
                counts[expected, predicted] += count
    labels = list(dict.fromkeys(expected for expected, _ in counts))
    found = []
    for label in labels:
        scores = [
            table.per_class[label].model_dump() for table in tables if label in table.per_class
        ]
        means = {name: fmean(one[name] for one in scores) for name in scores[0]}
        found.append(Class(label, means, {other: counts[label, other] for other in labels}))
    return found


def classes_csv(comparison: Comparison) -> str:
    """Return how each label fares with each cell: a line each, with the confusion matrix."""
    rows = [(row.name, one) for row in comparison.rows for one in by_class(row)]
    scores = list(dict.fromkeys(name for _, one in rows for name in one.scores))
    labels = list(dict.fromkeys(one.label for _, one in rows))
    header = ["cell", "label", *scores, *(f"predicted as {label}" for label in labels)]
    lines: list[list[Value]] = [
        [
            *(name, one.label),
            *(one.scores[score] for score in scores),
            *(one.predicted_as.get(label, 0) for label in labels),
        ]
        for name, one in rows
    ]
    return _csv([header, *lines])


def candidates_csv(comparison: Comparison) -> str:
    """Return every candidate with its best validation value: a line each."""
    rows: list[list[Value]] = [
        [row.name, tried.name, tried.status, tried.value, "yes" if tried is row.winner else ""]
        for row in comparison.rows
        for tried in row.candidates
    ]
    return _csv([["cell", "candidate", "status", "validation", "chosen"], *rows])


def _csv(lines: Sequence[Sequence[Value]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([["" if value != value else value for value in line] for line in lines])
    return file.getvalue()


def _verdict(comparison: Comparison) -> Column:
    def verdict(row: Row) -> str:
        if not row.runs:
            return "failed" if row.failures else "not run"
        words = []
        if row is comparison.recommended:
            words.append("recommended")
        if row is comparison.best:
            words.append("best")
        elif row in comparison.not_worse:
            words.append("not shown worse")
        else:
            words.append("worse")
        return ", ".join(words)

    return _text("verdict", "verdict", verdict)


def _text(title: str, name: str, text: Callable[[Row], str]) -> Column:
    return Column(title, text, {name: text}, is_words=True)


def _number(title: str, name: str, value: Callable[[Row], float], form: str) -> Column:
    return Column(title, lambda row: _or_dash(value(row), form.format), {name: value})


def _clock(
    title: str, name: str, value: Callable[[Row], float], text: Callable[[float], str]
) -> Column:
    return Column(title, lambda row: _or_dash(value(row), text), {name: value}, True)


def _or_dash(value: float, text: Callable[[float], str]) -> str:
    return words.NOTHING if math.isnan(value) else text(value)


def _metric(name: str) -> Column:
    def part(end: str) -> Callable[[Row], float]:
        return lambda row: getattr(row.metrics[name], end) if name in row.metrics else math.nan

    def text(row: Row) -> str:
        return words.estimate_of(name, row.metrics[name]) if name in row.metrics else words.NOTHING

    ends = {name: part("mean"), f"{name}_low": part("low"), f"{name}_high": part("high")}
    return Column(name, text, {**ends})


def _published(comparison: Comparison, name: str) -> Column:
    def value(row: Row) -> float:
        return comparison.study.published.get(row.name, {}).get(name, math.nan)

    def text(row: Row) -> str:
        if name in PUBLISHED_COSTS:
            return _or_dash(
                value(row), "{:,.5g}".format if name != "trainable" else "{:,.0f}".format
            )
        return words.value_of(name, value(row))

    title = f"published {PUBLISHED_COSTS.get(name, name)}"
    return Column(title, text, {f"published_{name}": value})


def _metric_names(comparison: Comparison) -> list[str]:
    names = (name for row in comparison.rows for name in row.metrics)
    return list(dict.fromkeys([comparison.metric.name, *names]))


def _published_names(comparison: Comparison) -> list[str]:
    names = (name for some in comparison.study.published.values() for name in some)
    return list(dict.fromkeys(names))


def _chosen(row: Row) -> str:
    return words.NOTHING if row.winner is None else title_of(row.winner.overrides)


def _percent(row: Row) -> float:
    return row.mean(lambda result: result.parameters.percent)


def _speed(row: Row) -> float:
    return fmean(r.result.tokens.per_second for r in row.runs) if row.runs else math.nan


TABLES: dict[str, Callable[[Comparison], str]] = {
    "cells.csv": cells_csv,
    "pairs.csv": pairs_csv,
    "effects.csv": effects_csv,
    "candidates.csv": candidates_csv,
    "classes.csv": classes_csv,
}
"""Every number of a report, by the file it is in."""
