"""A figure of a report, and what all figures share: colours, axes, layout.

Figures are made by Plotly (`pip install 'tunewise[report]'`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewise.errors import ConfigError
from tunewise.metrics import Metric
from tunewise.reports import words
from tunewise.studies.compare import CellResult, Comparison
from tunewise.studies.statistics import Interval

# Okabe and Ito's palette, which colour-blind readers can tell apart: https://jfly.uni-koeln.de/color/
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#666666")
DASHES = ("solid", "dash", "dot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
TENFOLD = 9.99
"""Ratio of largest to smallest value above which an axis is logarithmic: ten, less rounding."""


@dataclass(frozen=True)
class CostView:
    """The points of quality against cost for one kind of cost."""

    title: str
    """Title of the x axis, and of the option on the page."""
    front_x: list[float]
    front_y: list[float]
    xs: list[float]
    """The cost of each cell."""
    ys: list[float]

    def as_update(self) -> dict[str, Any]:
        """Return the arguments of `Plotly.update` that show this view: traces and layout.

        The first trace is the Pareto front, then each cell has one with a single point.
        """
        axis = {f"xaxis.{key}": value for key, value in axis_scale(self.xs).items()}
        return {
            "traces": {
                "x": [self.front_x, *([x] for x in self.xs)],
                "y": [self.front_y, *([y] for y in self.ys)],
            },
            "layout": {"xaxis.title.text": self.title, "xaxis.autorange": True, **axis},
        }


@dataclass(frozen=True)
class Figure:
    """One figure: its name, its caption, and Plotly's description of it."""

    name: str
    """Name of its files, and id of its data on the page."""
    title: str
    plot: Any
    views: list[CostView] = field(default_factory=list)
    """The views that a reader can choose from; the first is drawn at first."""


@dataclass(frozen=True)
class Style:
    """The style of a cell in every figure."""

    color: str
    dash: str
    symbol: str


def cell_styles(comparison: Comparison) -> dict[str, Style]:
    """Return the style of each cell, by its name: colours first, then dashes and symbols vary."""
    styles = {}
    for index, row in enumerate(comparison.rows):
        turn = index // len(PALETTE)
        styles[row.name] = Style(
            color=PALETTE[index % len(PALETTE)],
            dash=DASHES[turn % len(DASHES)],
            symbol=SYMBOLS[turn % len(SYMBOLS)],
        )
    return styles


def finished_rows(comparison: Comparison) -> list[CellResult]:
    """Return the cells with at least one finished run."""
    return [row for row in comparison.rows if row.runs]


def empty_plot() -> Any:
    """Return a Plotly figure without traces.

    Raises:
        ConfigError: if Plotly is not installed.
    """
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise ConfigError(
            "a report needs Plotly; install it with: pip install 'tunewise[report]'"
        ) from error
    return graph_objects.Figure()


def lay_out(plot: Any, x_title: str, y_title: str, x_scale: dict[str, Any] | None = None) -> None:
    """Set the titles, margins, legend and grid that all figures have.

    Args:
        plot: Plotly's figure, changed in place.
        x_title: title of the x axis.
        y_title: title of the y axis.
        x_scale: from `axis_scale`; without it Plotly chooses.
    """
    plot.update_layout(
        height=380,
        margin={"l": 56, "r": 16, "t": 16, "b": 48},
        font={"family": "system-ui, sans-serif", "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        hovermode="closest",
        showlegend=True,
    )
    line = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.4)"}
    plot.update_xaxes(title=x_title, **(x_scale or {}), **line)
    plot.update_yaxes(title=y_title, **line)


def axis_scale(values: Sequence[float]) -> dict[str, Any]:
    """Return an axis for some values: logarithmic if they span more than a factor of ten."""
    if not values or min(values) <= 0 or max(values) / min(values) <= TENFOLD:
        return {"type": "linear", "dtick": None, "exponentformat": None}
    # With few powers of ten on the axis, 2 and 5 are labelled too.
    is_short = max(values) / min(values) < TENFOLD**2
    return {"type": "log", "dtick": "D2" if is_short else 1, "exponentformat": "power"}


def error_bars(metric: Metric, intervals: Sequence[Interval]) -> dict[str, Any]:
    """Return some intervals as Plotly's error bars; none where an interval has no bounds."""
    upper = [axis_value(metric, interval.high - interval.mean) for interval in intervals]
    lower = [axis_value(metric, interval.mean - interval.low) for interval in intervals]
    if all(math.isnan(value) for value in upper):
        return {"visible": False, "type": "data", "array": []}
    return {
        "type": "data",
        "array": [0.0 if math.isnan(value) else value for value in upper],
        "arrayminus": [0.0 if math.isnan(value) else value for value in lower],
        "thickness": 1.5,
        "width": 5,
    }


def axis_value(metric: Metric, value: float) -> float:
    """Return a metric's value as axes show it: shares in percent."""
    return 100 * value if words.is_share(metric.name) else value


def metric_title(metric: Metric) -> str:
    """Return the title of a metric's axis."""
    return f"{metric.name}, %" if words.is_share(metric.name) else metric.name


def escape_plotly(text: str) -> str:
    """Return a text that Plotly, which reads some HTML, shows character by character."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
