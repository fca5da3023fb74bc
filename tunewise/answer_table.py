"""Answers as a table, CSV or TSV, that spreadsheets and pandas read."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tunewise.json_text import to_json

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""The delimiter of a table, by the ending of its file."""
FIRST = ("id", "row", "predicted")


def write_table(lines: Path, table: Path, delimiter: str) -> None:
    """Write the answers in a file of JSON lines as a table of one row each.

    Its columns are `id`, `row`, those of the input, `predicted`, and one for the probability of
    each label. A column of the input that has one of these names is called `input.NAME`.
    """
    labels: dict[str, None] = {}
    inputs: dict[str, None] = {}
    for answer in _answers(lines):
        labels |= dict.fromkeys(answer.get("probabilities", ()))
        inputs |= dict.fromkeys(answer.get("input", ()))
    probabilities = [f"probability of {label}" for label in labels]
    names = _free_names(inputs, {*FIRST, *probabilities})
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(["id", "row", *names, "predicted", *probabilities])
        for answer in _answers(lines):
            row, of_labels = answer.get("input", {}), answer.get("probabilities", {})
            writer.writerow(
                [
                    answer["id"],
                    answer["row"],
                    *(_cell(row.get(name)) for name in inputs),
                    answer["predicted"],
                    *(of_labels.get(label) for label in labels),
                ]
            )


def _free_names(columns: Iterable[str], taken: set[str]) -> list[str]:
    """Return the name of each column; one that is taken gets `input.` before it."""
    names: list[str] = []
    for column in columns:
        name = column
        while name in taken:
            name = f"input.{name}"
        names.append(name)
        taken.add(name)
    return names


def _answers(lines: Path) -> Iterator[dict[str, Any]]:
    with lines.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _cell(value: Any) -> Any:
    """Return a value as a cell: lists and objects as JSON, a truth value as JSON has it."""
    return to_json(value, ascii_only=False) if isinstance(value, list | dict | bool) else value
