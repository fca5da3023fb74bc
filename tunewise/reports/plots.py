"""Plots of test results: quality against cost, effects of axes, costs, confusion matrices.

Each function takes a comparison and returns figures, with every cell in its own colour.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tunewise.reports.columns import slowest_epoch
from tunewise.reports.figure import (
    PALETTE,
    CostView,
    Figure,
    axis_scale,
    axis_value,
    cell_styles,
    empty_plot,
    error_bars,
    escape_plotly,
    finished_rows,
    lay_out,
    metric_title,
)
from tunewise.reports.labels import label_results
from tunewise.studies.compare import COSTS, CellResult, Comparison
from tunewise.studies.study import Cost

COST_UNITS: dict[Cost, float] = {"trainable": 1.0, "memory": 2**30, "time": 1.0}
"""Divisor of a cost for the plot: memory is shown in GiB."""


def plot_quality_against_cost(comparison: Comparison) -> Figure:
    """Plot each cell's test metric, with its interval, over its cost.

    A dotted line joins the Pareto front: the cells that no other beats in both. The plot shows
    the study's own cost; the figure's views have the points for the other costs.

    Args:
        comparison: with at least one finished cell.
    """
    metric, rows, styles = comparison.metric, finished_rows(comparison), cell_styles(comparison)
    costs = sorted(COSTS, key=lambda cost: cost != comparison.study.cost)  # the study's first
    views = [_cost_view(comparison, rows, cost) for cost in costs]
    first = views[0]
    plot = empty_plot()
    plot.add_scatter(
        x=first.front_x,
        y=first.front_y,
        mode="lines",
        line={"color": "#999999", "dash": "dot", "width": 1.5},
        name="Pareto front",
        hoverinfo="skip",
    )
    for row, x, y in zip(rows, first.xs, first.ys, strict=True):
        style = styles[row.name]
        plot.add_scatter(
            x=[x],
            y=[y],
            error_y=error_bars(metric, [row.metrics[metric.name]]),
            mode="markers",
            marker={"color": style.color, "size": 11, "symbol": style.symbol},
            name=escape_plotly(row.name),
        )
    lay_out(plot, first.title, metric_title(metric), axis_scale(first.xs))
    return Figure("quality_and_cost", "Quality against cost", plot, views)


def _cost_view(comparison: Comparison, rows: Sequence[CellResult], cost: Cost) -> CostView:
    metric = comparison.metric
    values = [row.metrics[metric.name].mean for row in rows]
    xs = [row.cost(cost) / COST_UNITS[cost] for row in rows]
    ys = [axis_value(metric, value) for value in values]
    front = pareto_front(xs, values, metric.higher_is_better)
    title = "peak memory, GiB" if cost == "memory" else COSTS[cost]
    return CostView(title, [xs[i] for i in front], [ys[i] for i in front], xs, ys)


def pareto_front(
    costs: Sequence[float], values: Sequence[float], higher_is_better: bool
) -> list[int]:
    """Return the indices that no other beats in both cost and value, in order of rising cost.

    Args:
        costs: the cost of each candidate; lower is better.
        values: the value of each candidate, in the same order.
        higher_is_better: whether higher values are better.
    """
    sign = 1 if higher_is_better else -1
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -sign * values[index]))
    front: list[int] = []
    for index in order:
        if not front or sign * values[index] > sign * values[front[-1]]:
            front.append(index)
    return front


def plot_axis_effects(comparison: Comparison) -> list[Figure]:
    """Plot, for each axis of the study, the mean over all cells at each value with its interval."""
    metric, figures = comparison.metric, []
    for number, axis in enumerate(dict.fromkeys(effect.axis for effect in comparison.effects)):
        effects = [effect for effect in comparison.effects if effect.axis == axis]
        plot = empty_plot()
        plot.add_scatter(
            x=[escape_plotly(effect.value) for effect in effects],
            y=[axis_value(metric, effect.interval.mean) for effect in effects],
            error_y=error_bars(metric, [effect.interval for effect in effects]),
            mode="markers",
            marker={"color": PALETTE[0], "size": 10},
            showlegend=False,
        )
        lay_out(plot, escape_plotly(axis), metric_title(metric))
        plot.update_xaxes(type="category")
        figures.append(Figure(f"effect_{number + 1}", f"Effect of {axis}", plot))
    return figures


class _Bars(NamedTuple):
    """One bar chart: a bar per finished cell."""

    name: str
    title: str
    values: list[float]
    form: str
    """Format of the number on each bar."""


def plot_costs(comparison: Comparison) -> list[Figure]:
    """Plot one bar per cell for each cost, and for the test loss if all cells have one."""
    rows = finished_rows(comparison)
    trainable = [row.cost("trainable") for row in rows]
    memory = [row.cost("memory") / COST_UNITS["memory"] for row in rows]
    charts = [
        _Bars("trainable", "trainable parameters", trainable, "{:,.0f}"),
        _Bars("slowest_epoch", "slowest epoch, seconds", list(map(slowest_epoch, rows)), "{:.2g}"),
        _Bars("peak_memory", "peak memory, GiB", memory, "{:.2f}"),
    ]
    if all("loss" in row.metrics for row in rows):
        losses = [row.metrics["loss"].mean for row in rows]
        charts.append(_Bars("test_loss", "test loss", losses, "{:.3f}"))
    return [_plot_bars(comparison, bars) for bars in charts]


def _plot_bars(comparison: Comparison, bars: _Bars) -> Figure:
    rows, styles = finished_rows(comparison), cell_styles(comparison)
    plot = empty_plot()
    plot.add_bar(
        x=bars.values,
        y=[escape_plotly(row.name) for row in rows],
        orientation="h",
        text=[bars.form.format(number) for number in bars.values],
        marker={"color": [styles[row.name].color for row in rows]},
        showlegend=False,
    )
    lay_out(plot, bars.title, "", axis_scale(bars.values))
    plot.update_layout(height=90 + 34 * len(rows))
    plot.update_yaxes(autorange="reversed", automargin=True)
    return Figure(f"bars_{bars.name}", bars.title, plot)


def plot_confusion_matrices(comparison: Comparison) -> list[Figure]:
    """Plot, for each cell, how often each label was predicted where each was expected.

    Counts are of the test examples of all seeds. A task without labels has no figure.
    """
    figures = []
    for number, row in enumerate(finished_rows(comparison)):
        results = label_results(row)
        if not results:
            continue
        labels = [result.label for result in results]
        plot = plot_counts(labels, [list(result.predicted_as.values()) for result in results])
        figures.append(Figure(f"confusion_{number + 1}", row.name, plot))
    return figures


def plot_counts(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Any:
    """Return Plotly's figure of a confusion matrix: a row per expected label."""
    names, plot = [escape_plotly(label) for label in labels], empty_plot()
    plot.add_heatmap(
        z=counts,
        x=names,
        y=names,
        texttemplate="%{z}",
        colorscale=[[0, "#f4f7fa"], [1, PALETTE[0]]],
        showscale=False,
    )
    lay_out(plot, "predicted", "expected")
    plot.update_yaxes(autorange="reversed", type="category", automargin=True)
    plot.update_xaxes(type="category")
    plot.update_layout(height=150 + 34 * len(labels))
    return plot
