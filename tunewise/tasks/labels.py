"""Labels: the same label has one form, however a file or a setting spells it.

`1`, `1.0` and `" 1"` are one label, in rows of every format and in `labels` and `verbalizers`.
"""

import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from tunewise.data.names import tidy
from tunewise.data.rows import Row
from tunewise.errors import DataError

NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)(e[+-][0-9]{1,3})?")
"""Numbers as programs write them. `007` and `1e5` are codes: no program writes a number so."""
ANY_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?")
"""Everything that reads as a number, codes included."""
TRUTH_VALUES = {form: form.lower() for form in ("true", "True", "TRUE", "false", "False", "FALSE")}

MISSING = (
    *("NA", "N/A", "n/a", "<NA>", "nan", "NaN", "NAN", "-nan", "NaT", "None"),
    *("null", "Null", "NULL", "(null)", "(NULL)", "\\N"),
)
EXCEL_ERRORS = ("#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!")
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
PARTS = re.compile(r"[,;|]")
"""What stands between several labels in one cell."""
SELECTORS = "\ufe0e\ufe0f"
"""Whether an emoji is in colour."""
LOOKALIKES = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u00b4`"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-"),
}
"""Quotes and hyphens as typesetters write them, and as programmers do."""
LINKS = re.compile(r"(?<=\w)[-_](?=\w)|_")
AROUND = re.compile(r"^[\"' ]+|[\"' .]+$")

MANY, FEW = 10, 3
"""Least number of labels at which they may be too many, and of rows of each fraction."""


@lru_cache(maxsize=1024, typed=True)
def plain_label(value: str | float | Decimal) -> str:
    """Return the one form of a label.

    - Text loses the spaces around it, and its characters are composed (Unicode's NFC).
    - A number is written without a plus, without zeros at the end of a fraction, and without an
      exponent: `1` for `1.0`, `+1` and `1.00`, and `0.5` for `.50`. Leading zeros are kept: `007`.
    - A truth value is `true` or `false`, as for `True` and `TRUE`.
    """
    text = tidy(value) if isinstance(value, str) else str(value)
    if isinstance(value, Decimal):
        text = format(value, "f")
    if NUMBER.fullmatch(text):
        return _plain_number(text)
    return TRUTH_VALUES.get(text, text)


def label_value(row: Row, column: str) -> str:
    """Return a row's label in its one form.

    Raises:
        DataError: if the column is missing, empty, or holds anything but one label.
    """
    value = row.value(column)
    if isinstance(value, str):
        label = plain_label(row.text(column))
        wrong = "" if label else "a row needs a label"
    elif isinstance(value, int | float | Decimal) and math.isfinite(value):
        return plain_label(value)
    elif isinstance(value, list | tuple | dict):
        wrong = (
            "a row has one label: keep one, or train a model for each label, with a column that "
            "says true or false"
        )
    else:
        wrong = "a label is a text, a number or a truth value"
    if wrong:
        raise DataError(f"{row.origin}: column {column!r} holds {reprlib.repr(value)}; {wrong}")
    return label


def with_plain_label(row: Row, column: str | None) -> Row:
    """Return a row with its label in its one form, if it has a label."""
    if column is None or row.values[column] == (label := label_value(row, column)):
        return row
    return replace(row, values=row.values | {column: label})


def with_plain_keys(labels: Any) -> Any:
    """Return a mapping of labels with the one form of each: YAML reads `1:` as a number.

    Raises:
        ValueError: if a label is empty, or two are the same.
    """
    if not isinstance(labels, Mapping):
        return labels
    given: dict[str, Any] = {}
    for key in labels:
        label = plain_label(key if isinstance(key, str | float | int) else str(key))
        if not label:
            raise ValueError(f"the label {key!r} is empty")
        if label in given:
            raise ValueError(f"{given[label]!r} and {key!r} are the same label, {label!r}")
        given[label] = key
    return {label: labels[key] for label, key in given.items()}


def in_order(labels: Iterable[str]) -> list[str]:
    """Return labels in their order: numbers by value, texts by alphabet."""
    ordered = sorted(labels)
    if all(re.fullmatch(r"-?\d+(\.\d+)?", label) for label in ordered):
        ordered.sort(key=Decimal)
    return ordered


def refuse_scores(counts: Mapping[str, int], where: str, setting: str = "task.label") -> None:
    """Raise DataError if labels are numbers to be predicted, or ids: (nearly) each row has another.

    A few classes of fractions, such as 0.5 and 1.5 stars, are labels if they repeat.

    Args:
        counts: number of rows of each label.
        setting: what names the column of labels.
    """
    num_rows, num_labels = sum(counts.values()), len(counts)
    are_numbers = all(NUMBER.fullmatch(label) for label in counts)
    has_fractions = are_numbers and any("." in label for label in counts)
    too_many = num_labels >= MANY and 2 * num_labels > num_rows
    if too_many or (has_fractions and num_labels > 1 and num_rows < FEW * num_labels):
        some = ", ".join([*in_order(counts)[:3], "..."] if num_labels > 3 else in_order(counts))
        raise DataError(
            f"{where}: {num_labels} different labels in {num_rows} rows ({some}): numbers to be "
            "predicted, or ids? tunewise classifies; make a few classes, such as low and high, "
            f"name the column of labels with {setting}, or list them in task.labels"
        )


def looks_missing(value: Any) -> bool:
    """Return whether a value is how pandas, R, SQL or Excel write that there is none."""
    return isinstance(value, str) and (
        value.strip() in MISSING or value.strip().startswith(EXCEL_ERRORS)
    )


def joined_labels(labels: Iterable[str]) -> list[str]:
    """Return the labels that may be several in one, in order: `a|b`, where `a` is in others too."""
    labels = sorted(labels)
    if all(map(DECIMAL_COMMA.fullmatch, labels)):
        return []
    parts = {label: {part.strip() for part in PARTS.split(label)} for label in labels}
    counts = Counter(part for of_label in parts.values() for part in of_label)
    return [
        label
        for label, of_label in parts.items()
        if (len(of_label) > 1 and any(counts[part] > 1 for part in of_label))
        or (label.startswith("[") and label.endswith("]"))
    ]


def loose_form(label: str) -> str:
    """Return what two labels share that a person may take for one: `Yes` and `yes`, `01` and `1`.

    Beyond `plain_label` it overlooks case, spaces within, invisible characters, Unicode's other
    forms of a character (such as wide ones), the ways to write quotes, hyphens and numbers, and
    quotes around a label or a full stop behind it.
    """
    text = label.translate(LOOKALIKES)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" and c not in SELECTORS)
    text = AROUND.sub("", " ".join(text.split()))
    text = text if ANY_NUMBER.fullmatch(text) else " ".join(LINKS.sub(" ", text).split())
    return _plain_number(text) if ANY_NUMBER.fullmatch(text) else text


def _plain_number(text: str) -> str:
    number = Decimal(text)
    if not number:
        return "0"
    written = format(number, "f")
    return written.rstrip("0").rstrip(".") if "." in written else written
