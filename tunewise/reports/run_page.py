"""The page of one run: what it reached, how training went, and which test rows it got wrong."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.data.example import Example
from tunewise.errors import TunewiseError
from tunewise.metrics import METRICS, Prediction
from tunewise.reports import words
from tunewise.reports.figure import (
    PALETTE,
    Figure,
    empty_plot,
    lay_out,
    metric_title,
)
from tunewise.reports.page import Page
from tunewise.reports.plots import plot_counts
from tunewise.reports.sections import Folded, Section
from tunewise.reports.summary import FEW_ROWS
from tunewise.reports.tables import Heading, Table
from tunewise.reports.training_plots import Point, binned, validation_points
from tunewise.runs.folder import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    Line,
    read_lines,
    read_predictions,
    read_result,
    unfinished,
)
from tunewise.runs.origin import hash_examples, kept_data, read_origin
from tunewise.runs.result import Result
from tunewise.studies.statistics import Interval
from tunewise.yaml import dump_yaml

logger = logging.getLogger(__name__)

MAX_EXAMPLES = 30
"""Most test examples that are shown."""
MAX_TEXT = 1000
"""Most characters of an example that are shown."""


@dataclass(frozen=True)
class FinishedRun:
    """Everything that the page of a run is made of."""

    folder: Path
    result: Result
    lines: list[Line]
    predictions: list[Prediction]
    texts: Mapping[str, str]
    """The text of each test example by its id; empty if the rows cannot be read any more."""


def read_run(folder: Path, data: Path | None = None) -> FinishedRun:
    """Return a finished run.

    Args:
        data: the folder in which a named task's rows are searched; without it, the one that the run
            was started with.

    Raises:
        ConfigError: if it has not finished.
    """
    result = read_result(folder)
    if result is None:
        raise unfinished(folder)
    predictions = read_predictions(folder / PREDICTIONS_FILE)
    lines = read_lines(folder / METRICS_FILE)
    texts = _texts(folder, result, predictions, data or kept_data(folder))
    return FinishedRun(folder, result, lines, predictions, texts)


def build_run_page(run: FinishedRun) -> Page:
    """Return the content of a run's page.

    Raises:
        ConfigError: if Plotly is not installed.
    """
    config = run.result.config
    model, method = Path(config.model).name, config.method.kind
    sections = [_metrics(run), _curves(run), _labels(run), _examples(run), _cost(run), _repeat(run)]
    return Page(
        name=run.result.name,
        question=f"{model}, trained on {config.task.name} with {method}.",
        answer=[_answer(run)],
        warnings=_warnings(run),
        sections=[section for section in sections if section.has_content],
        files=(RESULT_FILE, METRICS_FILE, PREDICTIONS_FILE),
    )


def _texts(
    folder: Path, result: Result, predictions: Sequence[Prediction], data: Path | None
) -> Mapping[str, str]:
    """Return the text of each test example, from the rows as they are now."""
    if not any(prediction.predicted for prediction in predictions):
        return {}
    if any(prediction.prompt for prediction in predictions):
        return {prediction.id: prediction.prompt for prediction in predictions}
    try:
        examples = result.config.task.examples("test", data)
    except TunewiseError as error:
        logger.warning("the texts of the test rows are not shown: %s", error)
        return {}
    expected = {prediction.id: prediction.expected for prediction in predictions}
    same = [expected.get(example.id) for example in examples] == [
        e.target.strip() for e in examples
    ]
    origin = read_origin(folder)  # runs of earlier versions have none
    if not same or (origin and origin.changed_splits({"test": hash_examples(examples)})):
        logger.warning("the texts of the test rows are not shown: the rows are others now")
        return {}
    return {example.id: _text_of(example) for example in examples}


def _text_of(example: Example) -> str:
    return example.prompt + example.cue


def _answer(run: FinishedRun) -> str:
    """Return what the run reached, and what its figures are to be compared with."""
    result = run.result
    test = result.metrics.get("test")
    if not test:
        return "The test split was not read."
    metric = result.config.metric
    reached = words.format_with_interval(metric, _interval(result, metric))
    text = f"{metric} {reached} on {len(run.predictions):,} test rows."
    if result.tables is not None:
        label, share = result.tables.commonest
        text += f" To answer always {label!r}, the commonest label, gives an accuracy of "
        text += f"{words.format_value('accuracy', share)}."
    return text


def _warnings(run: FinishedRun) -> list[str]:
    result, warnings = run.result, []
    if result.updates_left_out:
        warnings.append(
            f"{result.updates_left_out:,} updates were skipped because their loss or gradient was "
            "not finite."
        )
    if result.tables is not None and (few := result.tables.rare(FEW_ROWS)):
        warnings.append(
            f"Labels with fewer than {FEW_ROWS} test rows, whose scores say little: "
            f"{words.join_names(few)}."
        )
    return warnings


def _interval(result: Result, metric: str) -> Interval:
    low, high = result.intervals["test"][metric]
    return Interval(result.metrics["test"][metric], low, high)


def _metrics(run: FinishedRun) -> Section:
    result = run.result
    header = [Heading("metric", "words"), Heading("test"), Heading("95 % interval")]
    header += [Heading("validation"), Heading("", "words")]
    test, validation = result.metrics.get("test", {}), result.metrics["validation"]
    rows = []
    for name in result.config.task.metrics:
        values = [words.MISSING, ""]
        if name in test:
            interval = _interval(result, name)
            values = [
                words.format_value(name, interval.mean),
                words.format_interval(name, interval),
            ]
        seen = words.format_value(name, validation[name]) if name in validation else words.MISSING
        rows.append([name, *values, seen, METRICS[name].description])
    best = result.best
    note = (
        "Intervals over the test rows, by bootstrap. Validation values are those of the state "
        f"that was kept: epoch {best.epoch}, update {best.step}."
    )
    return Section("Results", note, table=Table("metrics", header, rows))


def _curves(run: FinishedRun) -> Section:
    metric = METRICS[run.result.config.metric]
    curves = {
        "curve_loss": ("Training loss", "loss", binned(run.lines, "loss")),
        "curve_validation": (
            f"Validation {metric.name}",
            f"validation {metric_title(metric)}",
            validation_points(metric, run.lines),
        ),
        "curve_rate": ("Learning rate", "learning rate", binned(run.lines, "learning_rate")),
    }
    figures = [
        Figure(name, title, _plot(points, y_title))
        for name, (title, y_title, points) in curves.items()
        if points
    ]
    return Section("Training", figures=figures)


def _plot(points: Sequence[Point], y_title: str) -> Any:
    plot = empty_plot()
    plot.add_scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="lines+markers" if len(points) < 20 else "lines",
        line={"color": PALETTE[0]},
        showlegend=False,
    )
    lay_out(plot, "update", y_title)
    return plot


def _labels(run: FinishedRun) -> Section:
    heading = "Labels"
    tables = run.result.tables
    if tables is None:
        return Section(heading)
    header = [Heading("label", "words"), Heading("precision"), Heading("recall"), Heading("F1")]
    rows = [
        [
            label,
            *(f"{100 * value:.1f} %" for value in (scores.precision, scores.recall, scores.f1)),
            f"{scores.support:.0f}",
        ]
        for label, scores in tables.per_class.items()
    ]
    confusion = tables.confusion
    return Section(
        heading,
        "Rows of the matrix are the expected labels, columns the predicted ones; test rows.",
        figures=[Figure("confusion", "Confusion", plot_counts(confusion.labels, confusion.counts))],
        table=Table("labels", [*header, Heading("test rows")], rows),
    )


def _examples(run: FinishedRun) -> Section:
    """Return the wrong answers, the surest first; or written texts, in their order."""

    def sure(prediction: Prediction) -> str:
        known = prediction.probabilities
        return words.format_value("accuracy", _confidence(prediction)) if known else words.MISSING

    if run.result.tables is not None:
        wrong = [p for p in run.predictions if p.predicted != p.expected]
        wrong.sort(key=_confidence, reverse=True)
        count = f"{len(wrong):,} of {len(run.predictions):,} test rows"
        header = [Heading("row", "words"), Heading("text", "text"), Heading("expected", "words")]
        header += [Heading("predicted", "words"), Heading("probability")]
        rows = [
            [
                p.id,
                _shown(run.texts.get(p.id, "")),
                p.expected,
                p.predicted,
                sure(p),
            ]
            for p in wrong[:MAX_EXAMPLES]
        ]
        note = f"{count} are answered wrongly; these are the surest of them."
        return Section("Wrong answers", note, table=Table("wrong", header, rows) if rows else None)
    header = [Heading("row", "words"), Heading("prompt", "text")]
    header += [Heading("expected", "text"), Heading("written", "text")]
    rows = [
        [p.id, *map(_shown, (p.prompt, p.expected, p.predicted))]
        for p in run.predictions[:MAX_EXAMPLES]
        if p.predicted
    ]
    return Section("Written texts", table=Table("texts", header, rows) if rows else None)


def _confidence(prediction: Prediction) -> float:
    """Return the probability of the predicted label; 0 for a run of an earlier version."""
    return prediction.probabilities.get(prediction.predicted, 0.0)


def _shown(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _cost(run: FinishedRun) -> Section:
    result = run.result
    counts, time = result.parameters, result.time
    values = {
        "trained parameters": f"{counts.trainable:,} of {counts.total:,} ({counts.percent:.3g} %)",
        "training": words.format_seconds(time.train_seconds),
        "evaluation": words.format_seconds(time.evaluation_seconds),
        "peak memory": words.format_bytes(result.memory.peak_bytes),
        "tokens per second": f"{result.tokens.per_second:,.0f}",
        "device": result.memory.device,
    }
    rows = [[name, value] for name, value in values.items()]
    return Section("Cost", table=Table("cost", [Heading("", "words"), Heading("", "words")], rows))


def _repeat(run: FinishedRun) -> Section:
    result = run.result
    data = {name: size.model_dump() for name, size in result.data.items()}
    return Section(
        "Settings",
        folded=[
            Folded("Configuration", dump_yaml(result.config.model_dump(mode="json"))),
            Folded("Rows", dump_yaml(data)),
            Folded("Environment", dump_yaml(result.environment.model_dump())),
        ],
    )
