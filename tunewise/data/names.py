"""Names as people type them, of columns and labels: the same name has one form everywhere."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from tunewise.errors import DataError

AROUND = re.compile(r"^[\s\ufeff\u200b]+|[\s\ufeff\u200b]+$")
"""Spaces, and characters of no width, at both ends."""


def tidy(name: str) -> str:
    """Return a name without the spaces around it, its characters composed (Unicode's NFC)."""
    return AROUND.sub("", unicodedata.normalize("NFC", name))


Column = Annotated[str, AfterValidator(tidy)]
"""The name of a column."""


def column_names(names: Iterable[str], where: str) -> list[str]:
    """Return the tidy names of a table's header, an object's keys or Parquet's columns.

    Several may be empty, as above the index that pandas writes or behind a last comma: what has no
    name is not read.

    Raises:
        DataError: if two columns have the same name.
    """
    found: list[str] = []
    seen: set[str] = set()
    for name in names:
        found.append(tidy(name))
        if found[-1] in seen:
            raise DataError(f"{where}: column {found[-1]!r} is there twice; rename or remove one")
        seen |= {found[-1]} - {""}
    return found
