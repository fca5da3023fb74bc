"""Tables of a report as text; the page and report.md show the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunewise.reports import words
from tunewise.reports.columns import build_columns
from tunewise.reports.labels import label_results
from tunewise.studies.compare import CellResult, Comparison, Pair

Kind = Literal["number", "words", "text"]
"""Alignment of a column: numbers right, words left, long texts over several lines."""


@dataclass(frozen=True)
class Heading:
    """The heading of a table's column."""

    title: str
    kind: Kind = "number"
    sort_by: str = ""
    """The column of cells.csv that the page sorts by; empty if it does not sort."""


@dataclass(frozen=True)
class Table:
    """A table whose cells are text."""

    name: str
    """Id of the table on the page."""
    header: list[Heading]
    rows: list[list[str]]
    sort_values: list[list[str]] = field(default_factory=list)
    """The value that sorts each cell; empty for a table that the page does not sort."""
    marked_row: int | None = None
    """The row that is highlighted."""

    @property
    def titles(self) -> list[str]:
        """The headings as text."""
        return [heading.title for heading in self.header]


def cells_table(comparison: Comparison) -> Table:
    """Return the measurements of each cell, with the recommended one marked."""
    columns, rows = build_columns(comparison), comparison.rows
    recommended = [index for index, row in enumerate(rows) if row is comparison.recommended]
    return Table(
        name="cells",
        header=[
            Heading("cell", "words", "cell"),
            *(Heading(c.title, "words" if c.is_words else "number", c.sort_by) for c in columns),
        ],
        rows=[[row.name, *(column.text(row) for column in columns)] for row in rows],
        sort_values=[[row.name, *(column.sort_value(row) for column in columns)] for row in rows],
        marked_row=recommended[0] if recommended else None,
    )


def effects_table(comparison: Comparison) -> Table:
    """Return the mean at each value of each axis."""
    metric = comparison.metric.name
    rows = [
        [effect.axis, effect.value, words.format_with_interval(metric, effect.interval)]
        for effect in comparison.effects
    ]
    return Table(
        "effects", [Heading("axis", "words"), Heading("value", "words"), Heading(metric)], rows
    )


def pairs_table(comparison: Comparison, pairs: Sequence[Pair]) -> Table:
    """Return the difference of each of some pairs of cells, and whether it is significant."""
    metric = comparison.metric.name
    header = [
        Heading("first", "words"),
        Heading("second", "words"),
        Heading(f"difference in {metric}"),
        Heading("p"),
        Heading("corrected p"),
        Heading("conclusion", "words"),
    ]
    rows = [
        [
            pair.first,
            pair.second,
            words.format_difference(metric, pair.difference),
            words.format_p_value(pair.p),
            words.format_p_value(pair.corrected),
            "significant difference" if pair.is_significant else "no significant difference",
        ]
        for pair in pairs
    ]
    return Table("pairs", header, rows)


def labels_table(comparison: Comparison) -> Table:
    """Return precision, recall and F1 of each label, for each cell."""
    header = [
        Heading("cell", "words"),
        Heading("label", "words"),
        Heading("precision"),
        Heading("recall"),
        Heading("F1"),
        Heading("test examples"),
    ]
    rows = [
        [
            row.name,
            result.label,
            *(f"{100 * result.scores[name]:.1f} %" for name in ("precision", "recall", "f1")),
            f"{result.scores['support']:.0f}",
        ]
        for row in comparison.rows
        for result in label_results(row)
    ]
    return Table("labels", header, rows)


def examples_table(rows: Sequence[CellResult], numbers: Sequence[int]) -> Table:
    """Return some test examples with what each cell's first seed predicted.

    Args:
        rows: cells with a finished run.
        numbers: which examples, by their places in the test split.
    """
    header = [
        Heading("test example", "text"),
        Heading("expected", "text"),
        *(Heading(row.name, "text") for row in rows),
    ]
    lines = []
    for number in numbers:
        predictions = [row.runs[0].predictions[number] for row in rows]
        example = predictions[0]
        lines.append(
            [
                f"{example.id}\n{example.prompt}".strip(),
                example.expected,
                *(_without_prompt(p.predicted, example.prompt) for p in predictions),
            ]
        )
    return Table("answers", header, lines)


def _without_prompt(predicted: str, prompt: str) -> str:
    """Return a predicted text without the prompt, which it may repeat at its beginning."""
    return predicted.removeprefix(prompt.strip()).strip("\n")
