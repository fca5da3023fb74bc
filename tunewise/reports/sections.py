"""The figures of a report, by Plotly (`pip install 'tunewise[report]'`)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewise.errors import ConfigError
from tunewise.reports.tables import by_class, slowest_epoch
from tunewise.runs.folder import METRICS_FILE, read_lines
from tunewise.runs.result import Evaluation
from tunewise.studies.compare import COSTS, Comparison, Row, StoredRun
from tunewise.studies.statistics import Estimate
from tunewise.studies.study import Cost
from tunewise.studies.trials import Candidate
from tunewise.training.loop import Step

# Okabe and Ito's palette, told apart with any colour vision: https://jfly.uni-koeln.de/color/
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#666666")
DASHES = ("solid", "dash", "dot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
MAX_POINTS = 300
"""Of a curve; a longer one is averaged in bins."""
TENFOLD = 9.99
"""The ratio of largest to smallest from which an axis is logarithmic: ten, less rounding."""


@dataclass(frozen=True)
class Figure:
    """One figure: how it is called, what it shows, and Plotly's description of it."""

    name: str
    """Of its files, and of its place on the page."""
    title: str
    plot: Any
    switches: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What a choice on the page changes: traces and layout, by the choice's words."""


@dataclass(frozen=True)
class Section:
    """Figures that belong together, under a heading."""

    name: str
    heading: str
    note: str
    figures: list[Figure]


def sections(comparison: Comparison) -> list[Section]:
    """Return all figures of a comparison, by section; those that would be empty are left out.

    Raises:
        ConfigError: if Plotly is not installed.
    """
    done = [row for row in comparison.rows if row.runs]
    if not done:
        return []
    style = {row.name: _Style(index) for index, row in enumerate(comparison.rows)}
    metric = comparison.metric.name
    found = [
        Section(
            "cost",
            "Quality against cost",
            "Bars are 95 % intervals. The line joins the cells that no other beats in both.",
            [_quality_and_cost(comparison, done, style)],
        ),
        Section(
            "effects",
            "The effect of each axis",
            f"Mean {metric} over all cells at each value, with its 95 % interval.",
            _effects(comparison),
        ),
        Section(
            "tuning",
            "Tuning",
            "Every candidate, judged on validation data with one seed; the chosen one is a star.",
            _tuning(comparison, style),
        ),
        Section(
            "curves",
            "Curves",
            "A thin line per seed. A click on a name hides a cell; two clicks show it alone.",
            _curves(comparison, done, style),
        ),
        Section("bars", "Costs side by side", "Means over seeds.", _bars(done, style)),
        Section(
            "confusion",
            "What is taken for what",
            "Rows are the expected labels, columns the predicted ones; test examples of all seeds.",
            _confusion(done),
        ),
    ]
    return [section for section in found if section.figures]


class _Style:
    """How a cell looks in every figure."""

    def __init__(self, index: int) -> None:
        self.color = PALETTE[index % len(PALETTE)]
        self.dash = DASHES[index // len(PALETTE) % len(DASHES)]
        self.symbol = SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]


Styles = dict[str, _Style]


def _quality_and_cost(comparison: Comparison, rows: Sequence[Row], style: Styles) -> Figure:
    name = comparison.metric.name
    go = _plotly()
    plot = go.Figure()
    choices = {_cost_title(cost): _against(comparison, rows, cost) for cost in COSTS}
    first = _cost_title(comparison.study.cost)
    front, points = choices[first]["x"][0], choices[first]["x"][1:]
    plot.add_scatter(
        x=front,
        y=choices[first]["y"][0],
        mode="lines",
        line={"color": "#999999", "dash": "dot", "width": 1.5},
        name="Pareto front",
        hoverinfo="skip",
    )
    for row, x in zip(rows, points, strict=True):
        estimate, look = row.metrics[name], style[row.name]
        plot.add_scatter(
            x=x,
            y=[_scaled(comparison, estimate.mean)],
            error_y=_bars_of(comparison, [estimate]),
            mode="markers",
            marker={"color": look.color, "size": 11, "symbol": look.symbol},
            name=_escaped(row.name),
        )
    _lay_out(plot, first, _metric_title(comparison), _scale([x for [x] in points]))
    switches = {
        title: {
            "traces": choice,
            "layout": {
                "xaxis.title.text": title,
                "xaxis.autorange": True,
                **{
                    f"xaxis.{key}": value
                    for key, value in _scale([x for [x] in choice["x"][1:]]).items()
                },
            },
        }
        for title, choice in sorted(choices.items(), key=lambda item: item[0] != first)
    }
    return Figure("quality_and_cost", "Quality against cost", plot, switches)


def _against(
    comparison: Comparison, rows: Sequence[Row], cost: Cost
) -> dict[str, list[list[float]]]:
    """Return x and y of the Pareto front's points and of each cell, with one cost."""
    unit = {"trainable": 1.0, "memory": 2**30, "time": 1.0}[cost]
    name = comparison.metric.name
    xs = [row.cost(cost) / unit for row in rows]
    ys = [row.metrics[name].mean for row in rows]
    front = pareto(xs, ys, comparison.metric.higher_is_better)
    return {
        "x": [[xs[index] for index in front], *([x] for x in xs)],
        "y": [
            [_scaled(comparison, ys[index]) for index in front],
            *([_scaled(comparison, y)] for y in ys),
        ],
    }


def pareto(costs: Sequence[float], values: Sequence[float], higher_is_better: bool) -> list[int]:
    """Return the indices of what no other beats in cost and value, from cheap to dear."""
    sign = 1 if higher_is_better else -1
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -sign * values[index]))
    front: list[int] = []
    for index in order:
        if not front or sign * values[index] > sign * values[front[-1]]:
            front.append(index)
    return front


def _effects(comparison: Comparison) -> list[Figure]:
    figures = []
    for number, axis in enumerate(dict.fromkeys(effect.axis for effect in comparison.effects)):
        effects = [effect for effect in comparison.effects if effect.axis == axis]
        plot = _plotly().Figure()
        plot.add_scatter(
            x=[_escaped(effect.value) for effect in effects],
            y=[_scaled(comparison, effect.estimate.mean) for effect in effects],
            error_y=_bars_of(comparison, [effect.estimate for effect in effects]),
            mode="markers",
            marker={"color": PALETTE[0], "size": 10},
            showlegend=False,
        )
        _lay_out(plot, _escaped(axis), _metric_title(comparison))
        plot.update_xaxes(type="category")
        figures.append(Figure(f"effect_{number + 1}", f"Effect of {axis}", plot))
    return figures


def _tuning(comparison: Comparison, style: Styles) -> list[Figure]:
    rows = [row for row in comparison.rows if row.candidates]
    if not rows:
        return []
    values, curves = _plotly().Figure(), _plotly().Figure()
    axis = _tuned_axis(rows)
    numbers: list[float] = []
    for row in rows:
        look = style[row.name]
        tried = [(index, c) for index, c in enumerate(row.candidates) if not math.isnan(c.value)]
        xs = [float(c.overrides[axis]) if axis else index + 1 for index, c in tried]
        numbers += xs
        pairs = sorted(zip(xs, (c for _, c in tried), strict=True), key=lambda pair: pair[0])
        values.add_scatter(
            x=[x for x, _ in pairs],
            y=[_scaled(comparison, c.value) for _, c in pairs],
            text=[_escaped(c.name) for _, c in pairs],
            mode="lines+markers" if comparison.study.tune else "markers",
            marker={"color": look.color, "size": 8, "symbol": look.symbol},
            line={"color": look.color, "dash": look.dash, "width": 1.5},
            name=_escaped(row.name),
            legendgroup=row.name,
        )
        values.add_scatter(
            x=[x for x, c in pairs if c is row.winner],
            y=[_scaled(comparison, c.value) for _, c in pairs if c is row.winner],
            text=[_escaped(c.name) for _, c in pairs if c is row.winner],
            mode="markers",
            marker={"color": look.color, "size": 15, "symbol": "star"},
            name=_escaped(row.name),
            legendgroup=row.name,
            showlegend=False,
        )
        for index, candidate in enumerate(row.candidates):
            _add_candidate(curves, comparison, candidate, row, look, first=index == 0)
    title = f"validation {_metric_title(comparison)}"
    _lay_out(values, _escaped(axis) if axis else "candidate", title, _scale(numbers))
    if comparison.study.tune and axis:
        tried_values = sorted(set(numbers))
        values.update_xaxes(tickvals=tried_values, ticktext=[f"{x:g}" for x in tried_values])
    _lay_out(curves, "update", title)
    figures = [Figure("candidates", "Best validation value of each candidate", values)]
    if curves.data:
        figures.append(Figure("candidate_curves", "Each candidate's way", curves))
    return figures


def _tuned_axis(rows: Sequence[Row]) -> str | None:
    """Return the one number that candidates differ in, if there is just one."""
    fields = {path for row in rows for c in row.candidates for path in c.overrides}
    numbers = all(
        type(c.overrides.get(path)) in (int, float)
        for path in fields
        for row in rows
        for c in row.candidates
        if c.status != "open"
    )
    return fields.pop() if len(fields) == 1 and numbers else None


def _add_candidate(
    plot: Any, comparison: Comparison, tried: Candidate, row: Row, look: _Style, first: bool
) -> None:
    """Draw a candidate's validation values over its updates."""
    name = comparison.metric.name
    written = read_lines(tried.folder / METRICS_FILE)
    lines = [line for line in written if isinstance(line, Evaluation) and name in line.validation]
    if lines:
        plot.add_scatter(
            x=[line.number for line in lines],
            y=[_scaled(comparison, line.validation[name]) for line in lines],
            text=_escaped(tried.name),
            mode="lines+markers",
            marker={"size": 5, "color": look.color},
            line={"color": look.color, "dash": look.dash, "width": 3 if tried is row.winner else 1},
            name=_escaped(row.name),
            legendgroup=row.name,
            showlegend=first,
        )


def _curves(comparison: Comparison, rows: Sequence[Row], style: Styles) -> list[Figure]:
    name = comparison.metric.name
    figures: list[tuple[str, str, str, Callable[[StoredRun], list[tuple[float, float]]]]] = [
        ("loss", "Training loss", "loss", lambda run: _binned(run, "loss")),
        (
            "validation",
            "Validation",
            f"validation {_metric_title(comparison)}",
            lambda run: [
                (line.number, _scaled(comparison, line.validation[name]))
                for line in run.lines
                if isinstance(line, Evaluation) and name in line.validation
            ],
        ),
        ("rate", "Learning rate", "learning rate", lambda run: _binned(run, "learning_rate")),
    ]
    return [
        Figure(f"curve_{key}", title, _curve_plot(rows, style, y_title, points))
        for key, title, y_title, points in figures
    ]


def _curve_plot(
    rows: Sequence[Row],
    style: Styles,
    title: str,
    points: Callable[[StoredRun], list[tuple[float, float]]],
) -> Any:
    plot = _plotly().Figure()
    for row in rows:
        look = style[row.name]
        for index, run in enumerate(row.runs):
            xy = points(run)
            plot.add_scatter(
                x=[x for x, _ in xy],
                y=[y for _, y in xy],
                mode="lines+markers" if len(xy) < 20 else "lines",
                marker={"size": 5},
                line={"color": look.color, "dash": look.dash, "width": 1.3},
                opacity=0.8,
                name=_escaped(row.name),
                legendgroup=row.name,
                showlegend=index == 0,
            )
    _lay_out(plot, "update", title)
    return plot


def _binned(run: StoredRun, key: str) -> list[tuple[float, float]]:
    """Return a curve over updates, averaged in bins so that it has few points."""
    # What was not a finite number is not shown: that update was left out.
    steps = [line for line in run.lines if isinstance(line, Step)]
    values = [(step.number, float(getattr(step, key))) for step in steps]
    points = [(number, value) for number, value in values if math.isfinite(value)]
    size = math.ceil(len(points) / MAX_POINTS)
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    return [(some[-1][0], sum(y for _, y in some) / len(some)) for some in bins]


def _bars(rows: Sequence[Row], style: Styles) -> list[Figure]:
    shown: list[tuple[str, str, Callable[[Row], float], Callable[[float], str]]] = [
        ("trainable", "trainable parameters", lambda row: row.cost("trainable"), "{:,.0f}".format),
        ("slowest_epoch", "slowest epoch, seconds", slowest_epoch, "{:.2g}".format),
        (
            "peak_memory",
            "peak memory, GiB",
            lambda row: row.cost("memory") / 2**30,
            "{:.2f}".format,
        ),
    ]
    if all("loss" in row.metrics for row in rows):
        shown.append(
            ("test_loss", "test loss", lambda row: row.metrics["loss"].mean, "{:.3f}".format)
        )
    figures = []
    for name, title, value, text in shown:
        values = [value(row) for row in rows]
        plot = _plotly().Figure()
        plot.add_bar(
            x=values,
            y=[_escaped(row.name) for row in rows],
            orientation="h",
            text=[text(number) for number in values],
            marker={"color": [style[row.name].color for row in rows]},
            showlegend=False,
        )
        _lay_out(plot, title, "", _scale(values))
        plot.update_layout(height=90 + 34 * len(rows))
        plot.update_yaxes(autorange="reversed", automargin=True)
        figures.append(Figure(f"bars_{name}", title, plot))
    return figures


def _confusion(rows: Sequence[Row]) -> list[Figure]:
    figures = []
    for number, row in enumerate(rows):
        found = by_class(row)
        if not found:
            continue
        labels = [_escaped(one.label) for one in found]
        plot = _plotly().Figure()
        plot.add_heatmap(
            z=[list(one.predicted_as.values()) for one in found],
            x=labels,
            y=labels,
            texttemplate="%{z}",
            colorscale=[[0, "#f4f7fa"], [1, PALETTE[0]]],
            showscale=False,
        )
        _lay_out(plot, "predicted", "expected")
        plot.update_yaxes(autorange="reversed", type="category", automargin=True)
        plot.update_xaxes(type="category")
        plot.update_layout(height=150 + 34 * len(labels))
        figures.append(Figure(f"confusion_{number + 1}", row.name, plot))
    return figures


def _bars_of(comparison: Comparison, estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return the intervals of some estimates as Plotly has them."""
    upper = [_scaled(comparison, some.high - some.mean) for some in estimates]
    lower = [_scaled(comparison, some.mean - some.low) for some in estimates]
    finite = [not math.isnan(value) for value in upper]
    if not any(finite):
        return {"visible": False, "type": "data", "array": []}
    none = [0.0 if math.isnan(value) else value for value in upper]
    under = [0.0 if math.isnan(value) else value for value in lower]
    return {"type": "data", "array": none, "arrayminus": under, "thickness": 1.5, "width": 5}


def _scaled(comparison: Comparison, value: float) -> float:
    return 100 * value if comparison.metric.of == "label" else value


def _metric_title(comparison: Comparison) -> str:
    name = comparison.metric.name
    return f"{name}, %" if comparison.metric.of == "label" else name


def _cost_title(cost: Cost) -> str:
    return {"trainable": COSTS[cost], "memory": "peak memory, GiB", "time": COSTS[cost]}[cost]


def _scale(values: Sequence[float]) -> dict[str, Any]:
    """Return an axis for some values: logarithmic where they span more than a factor of ten."""
    if values and min(values) > 0 and max(values) / min(values) > TENFOLD:
        few = (
            max(values) / min(values) < TENFOLD**2
        )  # with few powers of ten, 2 and 5 are shown too
        return {"type": "log", "dtick": "D2" if few else 1, "exponentformat": "power"}
    return {"type": "linear", "dtick": None, "exponentformat": None}


def _lay_out(plot: Any, x_title: str, y_title: str, scale: dict[str, Any] | None = None) -> None:
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
    plot.update_xaxes(title=x_title, **(scale or {}), **line)
    plot.update_yaxes(title=y_title, **line)


def _escaped(text: str) -> str:
    """Return a text that Plotly, which reads some HTML, shows as it stands."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plotly() -> Any:
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise ConfigError(
            "a report needs Plotly; install it with: pip install 'tunewise[report]'"
        ) from error
    return graph_objects
