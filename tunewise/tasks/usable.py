"""Usable rows: those that make an example. The others are refused together, or left out."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from tunewise.data.example import Example
from tunewise.data.rows import OnBadRow, Row
from tunewise.data.splits import Source
from tunewise.data.unusable import BadRows, UnusableRows, place_of
from tunewise.errors import DataError

Made = TypeVar("Made")


class Identity:
    """Gives each example the number of its row and, as its id, the user's own key if asked.

    Args:
        key: the column with the keys; without it, an example keeps its id, the place of its row.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key
        self._places: dict[str, str] = {}

    def give(self, example: Example, row: Row) -> Example:
        """Return the example with the number of its row, and its id.

        Raises:
            DataError: if the row has no key, or that of another row.
        """
        if self._key is None:
            return replace(example, row=row.number)
        key = row.key(self._key)
        if (other := self._places.setdefault(key, row.origin)) != row.origin:
            raise DataError(
                f"{row.origin}: column {self._key!r} holds {key!r}, as {other} does; a key names "
                "one row"
            )
        return replace(example, id=key, row=row.number)


def read_once(source: Source) -> Source:
    """Return a source whose splits are read once, however often they are asked for."""
    return replace(
        source, splits={split: _remembering(read) for split, read in source.splits.items()}
    )


def usable_rows(
    rows: list[Row], make: Callable[[Row], Made], errors: list[DataError]
) -> list[tuple[Row, Made]]:
    """Return each row that makes something, and what it makes; add the errors of the others."""
    usable = []
    for row in rows:
        try:
            usable.append((row, make(row)))
        except DataError as error:
            errors.append(error)
    return usable


def settle(errors: list[DataError], num_usable: int, bad_rows: BadRows) -> str | None:
    """Return the sentence about rows that were left out, if there are any.

    Raises:
        DataError: if rows cannot be used and are not to be dropped, or no row can be used: then a
            setting is wrong, such as the name of a column.
    """
    if not errors:
        return None
    errors = sorted(errors, key=place_of)
    if not num_usable:
        raise errors[0]
    if bad_rows == "stop" and len(errors) == 1:
        raise DataError(f"{errors[0]}; correct it, or leave the row out with task.bad_rows=drop")
    unusable = UnusableRows()
    for error in errors:
        unusable(error)
    told = unusable.told(num_usable)
    if bad_rows == "drop":
        return f"{told}; they are left out"
    raise DataError(f"{told}; correct them, or leave them out with task.bad_rows=drop")


def _remembering(read: Callable[[OnBadRow], list[Row]]) -> Callable[[OnBadRow], list[Row]]:
    errors: list[DataError] = []
    kept: list[Row] = []

    def rows(on_bad_row: OnBadRow) -> list[Row]:
        if not kept:
            errors.clear()
            try:
                kept.extend(read(errors.append))
            except DataError as no_rows:  # every row of a file is broken
                raise (errors or [no_rows])[0] from no_rows
        for error in errors:
            on_bad_row(error)
        return kept

    return rows
