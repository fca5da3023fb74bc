"""Labels as rows hold them: strings, whole numbers and truth values, all read as text."""

import reprlib
from typing import Any

from tunewise.data.rows import Row
from tunewise.errors import DataError


def label_value(row: Row, column: str) -> str:
    """Return a row's label as text: `1` and `"1"` are the same label.

    Raises:
        DataError: if the column is missing, empty, or holds anything else.
    """
    value = row.value(column)
    if not isinstance(value, (str, int)) or value == "":
        raise DataError(
            f"{row.origin}: column {column!r} holds {reprlib.repr(value)}; "
            "a label is a string or a whole number"
        )
    return row.text(column) if isinstance(value, str) else str(value)


def labels_as_text(labels: Any) -> Any:
    """Return a mapping of labels with text as its keys, since YAML reads `1:` as a number."""
    return (
        {str(key): value for key, value in labels.items()} if isinstance(labels, dict) else labels
    )
