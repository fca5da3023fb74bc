"""CSV files with every number of a report, at full precision."""

import csv
import io
from collections.abc import Callable, Sequence

from tunewise.reports.columns import Value, build_columns, csv_value
from tunewise.reports.labels import label_results
from tunewise.studies.compare import Comparison


def cells_csv(comparison: Comparison) -> str:
    """Return the table of cells: a line per cell, with measured times and memory last."""
    columns = sorted(build_columns(comparison), key=lambda column: column.is_clocked)
    fields = {name: value for column in columns for name, value in column.values.items()}
    rows = [[row.name, *(value(row) for value in fields.values())] for row in comparison.rows]
    return _csv([["cell", *fields], *rows])


def pairs_csv(comparison: Comparison) -> str:
    """Return the comparison of every two cells: a line per pair."""
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
    """Return the mean at each value of each axis: a line per value."""
    rows: list[list[Value]] = [
        [effect.axis, effect.value, effect.interval.mean, effect.interval.low, effect.interval.high]
        for effect in comparison.effects
    ]
    return _csv([["axis", "value", "mean", "low", "high"], *rows])


def candidates_csv(comparison: Comparison) -> str:
    """Return every candidate with its best validation value: a line per candidate."""
    rows: list[list[Value]] = [
        [row.name, tried.name, tried.status, tried.value, "yes" if tried is row.winner else ""]
        for row in comparison.rows
        for tried in row.candidates
    ]
    return _csv([["cell", "candidate", "status", "validation", "chosen"], *rows])


def classes_csv(comparison: Comparison) -> str:
    """Return the scores and the confusion matrix: a line per cell and label."""
    results = [(row.name, result) for row in comparison.rows for result in label_results(row)]
    scores = list(dict.fromkeys(name for _, result in results for name in result.scores))
    labels = list(dict.fromkeys(result.label for _, result in results))
    header = ["cell", "label", *scores, *(f"predicted as {label}" for label in labels)]
    rows: list[list[Value]] = [
        [
            *(name, result.label),
            *(result.scores[score] for score in scores),
            *(result.predicted_as.get(label, 0) for label in labels),
        ]
        for name, result in results
    ]
    return _csv([header, *rows])


def _csv(rows: Sequence[Sequence[Value]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([map(csv_value, row) for row in rows])
    return file.getvalue()


CSV_FILES: dict[str, Callable[[Comparison], str]] = {
    "cells.csv": cells_csv,
    "pairs.csv": pairs_csv,
    "effects.csv": effects_csv,
    "candidates.csv": candidates_csv,
    "classes.csv": classes_csv,
}
"""The function that writes each file, by the file's name."""
