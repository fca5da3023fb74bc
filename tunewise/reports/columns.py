"""Columns of the table of cells, which the page, report.md and cells.csv share."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tunewise.reports import words
from tunewise.studies.compare import CellResult, Comparison
from tunewise.studies.overrides import title_of

Value = str | float | int
"""A field of cells.csv; NaN where there is no number."""

PUBLISHED_COSTS = {
    "trainable": "trainable parameters",
    "peak_gb": "peak memory, GB",
    "epoch_minutes": "minutes per epoch",
}
"""Titles of the costs that a study may publish beside metrics."""


@dataclass(frozen=True)
class Column:
    """One column of the table: a text per cell, and the columns of cells.csv behind it."""

    title: str
    text: Callable[[CellResult], str]
    values: dict[str, Callable[[CellResult], Value]]
    """The columns of cells.csv, by name."""
    sort_by: str
    """The name in `values` of the column that the page sorts by."""
    is_clocked: bool = False
    """Whether a repeated run of the study may measure another value: time and memory."""
    is_words: bool = False

    def sort_value(self, row: CellResult) -> str:
        """Return the value in cells.csv, by which the page sorts a row."""
        return csv_value(self.values[self.sort_by](row))


def csv_value(value: Value) -> str:
    """Return a value as text with full precision; an empty text if it is not finite."""
    return "" if isinstance(value, float) and not math.isfinite(value) else str(value)


def build_columns(comparison: Comparison) -> list[Column]:
    """Return the columns, the deciding ones first: verdict, the study's metric, the costs."""
    columns = [_text("verdict", "verdict", lambda row: _verdict(comparison, row))]
    if comparison.study.tune or comparison.study.search:
        columns.append(_text("chosen values", "chosen", _chosen))
    first, *others = _metric_names(comparison)
    columns.append(_metric(first))
    columns += [_published(comparison, name) for name in _published_names(comparison)]
    columns += [
        _number("trainable parameters", "trainable", lambda row: row.cost("trainable"), "{:,.0f}"),
        _number("% of all", "percent", _percent, "{:.3g}"),
        _clocked("peak memory", "peak_bytes", lambda row: row.cost("memory"), words.format_bytes),
        _clocked(
            "time per epoch", "epoch_seconds", lambda row: row.cost("time"), words.format_seconds
        ),
        _clocked("slowest epoch", "slowest_epoch_seconds", slowest_epoch, words.format_seconds),
        _clocked("tokens/s", "tokens_per_second", _speed, "{:,.0f}".format),
        _number("best epoch", "best_epoch", _best_epoch, "{:.3g}"),
        _number("seeds", "seeds", lambda row: len(row.runs), "{:.0f}"),
    ]
    return columns + [_metric(name) for name in others]


def slowest_epoch(row: CellResult) -> float:
    """Return the seconds of the slowest epoch of any seed."""
    seconds = (epoch for run in row.runs for epoch in run.result.time.epoch_seconds)
    return max(seconds, default=math.nan)


def _text(title: str, name: str, text: Callable[[CellResult], str]) -> Column:
    return Column(title, text, {name: text}, sort_by=name, is_words=True)


def _number(title: str, name: str, value: Callable[[CellResult], float], form: str) -> Column:
    return Column(title, lambda row: _or_dash(value(row), form.format), {name: value}, sort_by=name)


def _clocked(
    title: str, name: str, value: Callable[[CellResult], float], text: Callable[[float], str]
) -> Column:
    return Column(
        title,
        lambda row: _or_dash(value(row), text),
        {name: value},
        sort_by=name,
        is_clocked=True,
    )


def _or_dash(value: float, text: Callable[[float], str]) -> str:
    return words.MISSING if math.isnan(value) else text(value)


def _metric(name: str) -> Column:
    def part(end: str) -> Callable[[CellResult], float]:
        return lambda row: getattr(row.metrics[name], end) if name in row.metrics else math.nan

    def text(row: CellResult) -> str:
        if name not in row.metrics:
            return words.MISSING
        return words.format_with_interval(name, row.metrics[name])

    values: dict[str, Callable[[CellResult], Value]] = {
        name: part("mean"),
        f"{name}_low": part("low"),
        f"{name}_high": part("high"),
    }
    return Column(name, text, values, sort_by=name)


def _published(comparison: Comparison, name: str) -> Column:
    def value(row: CellResult) -> float:
        return comparison.study.published.get(row.name, {}).get(name, math.nan)

    def text(row: CellResult) -> str:
        if name in PUBLISHED_COSTS:
            form = "{:,.0f}" if name == "trainable" else "{:,.5g}"
            return _or_dash(value(row), form.format)
        return words.format_value(name, value(row))

    title = f"published {PUBLISHED_COSTS.get(name, name)}"
    key = f"published_{name}"
    return Column(title, text, {key: value}, sort_by=key)


def _metric_names(comparison: Comparison) -> list[str]:
    names = (name for row in comparison.rows for name in row.metrics)
    return list(dict.fromkeys([comparison.metric.name, *names]))


def _published_names(comparison: Comparison) -> list[str]:
    names = (name for values in comparison.study.published.values() for name in values)
    return list(dict.fromkeys(names))


def _verdict(comparison: Comparison, row: CellResult) -> str:
    if not row.runs:
        return "failed" if row.failures else "not run"
    if row is comparison.best:
        verdict = "best"
    elif row in comparison.not_worse:
        verdict = "not significantly worse"
    else:
        verdict = "significantly worse"
    return f"recommended, {verdict}" if row is comparison.recommended else verdict


def _chosen(row: CellResult) -> str:
    return words.MISSING if row.winner is None else title_of(row.winner.overrides)


def _percent(row: CellResult) -> float:
    return row.mean(lambda result: result.parameters.percent)


def _best_epoch(row: CellResult) -> float:
    return row.mean(lambda result: result.best.epoch)


def _speed(row: CellResult) -> float:
    return row.mean(lambda result: result.tokens.per_second)
