"""Plots of training: the candidates' validation values, and curves over updates.

Each function takes a comparison and returns figures, with every cell in its own colour.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tunewise.metrics import Metric
from tunewise.reports.figure import (
    Figure,
    axis_scale,
    axis_value,
    cell_styles,
    empty_plot,
    escape_plotly,
    finished_rows,
    lay_out,
    metric_title,
)
from tunewise.runs.folder import METRICS_FILE, Line, read_lines
from tunewise.runs.result import Evaluation
from tunewise.studies.compare import CellResult, Comparison, StoredRun
from tunewise.studies.trials import Trial
from tunewise.training.loop import Step

MAX_POINTS = 300
"""Most points of a curve; a longer one is averaged in bins."""

Point = tuple[float, float]
"""x and y."""


def plot_candidates(comparison: Comparison) -> list[Figure]:
    """Plot the best validation value of every candidate; a star marks the chosen one.

    The x axis is the tuned field where candidates differ in one number, else the candidate's
    place in the order of trials. A study without candidates has no figure.
    """
    rows, styles = [row for row in comparison.rows if row.candidates], cell_styles(comparison)
    if not rows:
        return []
    metric, field = comparison.metric, _tuned_number(rows)
    mode = "lines+markers" if comparison.study.tune else "markers"
    plot = empty_plot()
    xs: list[float] = []
    for row in rows:
        style, candidates = styles[row.name], _by_tuned_value(row, field)
        xs += [x for x, _ in candidates]
        plot.add_scatter(
            **_candidate_points(metric, candidates),
            mode=mode,
            marker={"color": style.color, "size": 8, "symbol": style.symbol},
            line={"color": style.color, "dash": style.dash, "width": 1.5},
            name=escape_plotly(row.name),
            legendgroup=row.name,
        )
        plot.add_scatter(
            **_candidate_points(metric, [pair for pair in candidates if pair[1] is row.winner]),
            mode="markers",
            marker={"color": style.color, "size": 15, "symbol": "star"},
            name=escape_plotly(row.name),
            legendgroup=row.name,
            showlegend=False,
        )
    x_title = escape_plotly(field) if field else "candidate"
    lay_out(plot, x_title, f"validation {metric_title(metric)}", axis_scale(xs))
    if comparison.study.tune and field:
        ticks = sorted(set(xs))
        plot.update_xaxes(tickvals=ticks, ticktext=[f"{x:g}" for x in ticks])
    return [Figure("candidates", "Best validation value of each candidate", plot)]


def _tuned_number(rows: Sequence[CellResult]) -> str | None:
    """Return the field that candidates differ in, if there is just one and its values are numbers.

    Candidates that a search has still to choose are ignored: they have no values yet.
    """
    fields = {path for row in rows for c in row.candidates for path in c.overrides}
    are_numbers = all(
        type(c.overrides.get(path)) in (int, float)
        for path in fields
        for row in rows
        for c in row.candidates
        if c.status != "open"
    )
    return fields.pop() if len(fields) == 1 and are_numbers else None


def _by_tuned_value(row: CellResult, field: str | None) -> list[tuple[float, Trial]]:
    """Return the x of each measured candidate with the candidate, in order of x."""
    measured = [(place, c) for place, c in enumerate(row.candidates, 1) if not math.isnan(c.value)]
    pairs = [(float(c.overrides[field]) if field else place, c) for place, c in measured]
    return sorted(pairs, key=lambda pair: pair[0])


def _candidate_points(
    metric: Metric, candidates: Sequence[tuple[float, Trial]]
) -> dict[str, list[Any]]:
    """Return x, y and hover text of some candidates as Plotly's arguments."""
    return {
        "x": [x for x, _ in candidates],
        "y": [axis_value(metric, c.value) for _, c in candidates],
        "text": [escape_plotly(c.name) for _, c in candidates],
    }


def plot_candidate_curves(comparison: Comparison) -> list[Figure]:
    """Plot each candidate's validation values over its updates; the chosen one has a thick line.

    A study without candidates that have been evaluated has no figure.
    """
    metric, styles = comparison.metric, cell_styles(comparison)
    plot = empty_plot()
    for row in comparison.rows:
        style = styles[row.name]
        for index, candidate in enumerate(row.candidates):
            points = validation_points(metric, read_lines(candidate.folder / METRICS_FILE))
            if not points:
                continue
            width = 3 if candidate is row.winner else 1
            plot.add_scatter(
                x=[x for x, _ in points],
                y=[y for _, y in points],
                text=escape_plotly(candidate.name),
                mode="lines+markers",
                marker={"size": 5, "color": style.color},
                line={"color": style.color, "dash": style.dash, "width": width},
                name=escape_plotly(row.name),
                legendgroup=row.name,
                showlegend=index == 0,
            )
    if not plot.data:
        return []
    lay_out(plot, "update", f"validation {metric_title(metric)}")
    return [Figure("candidate_curves", "Validation values of each candidate over updates", plot)]


def plot_training_loss(comparison: Comparison) -> Figure:
    """Plot the training loss over updates, a line per seed of each cell."""
    plot = _plot_curves(comparison, "loss", lambda run: binned(run.lines, "loss"))
    return Figure("curve_loss", "Training loss", plot)


def plot_validation(comparison: Comparison) -> Figure:
    """Plot the study's metric on validation data over updates, a line per seed of each cell."""
    metric = comparison.metric
    plot = _plot_curves(
        comparison,
        f"validation {metric_title(metric)}",
        lambda run: validation_points(metric, run.lines),
    )
    return Figure("curve_validation", f"Validation {metric.name}", plot)


def plot_learning_rate(comparison: Comparison) -> Figure:
    """Plot the learning rate over updates, a line per seed of each cell."""
    plot = _plot_curves(comparison, "learning rate", lambda run: binned(run.lines, "learning_rate"))
    return Figure("curve_rate", "Learning rate", plot)


def _plot_curves(
    comparison: Comparison, y_title: str, points_of: Callable[[StoredRun], list[Point]]
) -> Any:
    """Return Plotly's figure of a curve per finished run, made of the points of each."""
    styles, plot = cell_styles(comparison), empty_plot()
    for row in finished_rows(comparison):
        style = styles[row.name]
        for index, run in enumerate(row.runs):
            points = points_of(run)
            plot.add_scatter(
                x=[x for x, _ in points],
                y=[y for _, y in points],
                mode="lines+markers" if len(points) < 20 else "lines",
                marker={"size": 5},
                line={"color": style.color, "dash": style.dash, "width": 1.3},
                opacity=0.8,
                name=escape_plotly(row.name),
                legendgroup=row.name,
                showlegend=index == 0,
            )
    lay_out(plot, "update", y_title)
    return plot


def validation_points(metric: Metric, lines: Sequence[Line]) -> list[Point]:
    """Return update and validation value of each evaluation among the lines of metrics.jsonl."""
    return [
        (line.number, axis_value(metric, line.validation[metric.name]))
        for line in lines
        if isinstance(line, Evaluation) and metric.name in line.validation
    ]


def binned(lines: Sequence[Line], key: str) -> list[Point]:
    """Return a curve over updates, averaged in bins so that it has at most MAX_POINTS."""
    steps = [line for line in lines if isinstance(line, Step)]
    values = [(step.number, float(getattr(step, key))) for step in steps]
    # A number that is not finite is not drawn: that update was left out.
    points = [(number, value) for number, value in values if math.isfinite(value)]
    size = math.ceil(len(points) / MAX_POINTS)
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    return [(points[-1][0], sum(y for _, y in points) / len(points)) for points in bins]
