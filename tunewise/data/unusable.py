"""Unusable rows: their errors are counted, and told together in one line."""

import re
from typing import Literal

from tunewise.errors import MAX_NAMES, DataError, first_of

BadRows = Literal["stop", "drop"]
"""What to do about them: stop before anything is computed, or leave them out."""


class UnusableRows:
    """Takes the error of each row that cannot be used; the first is kept, of some more the place.

    So memory does not grow with their number.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first = ""
        self._others: list[str] = []

    def __call__(self, error: DataError) -> None:
        """Take the error of a row."""
        self.count += 1
        if self.count == 1:
            self._first = str(error)
        elif len(self._others) < MAX_NAMES - 1:
            file, number = place_of(error)
            self._others.append(f"{file}:{number}" if file else str(error))

    def told(self, num_usable: int) -> str:
        """Return how many of all rows cannot be used, why the first cannot, and where others are.

        Args:
            num_usable: number of the other rows.
        """
        text = f"{self.count:,} of {self.count + num_usable:,} rows cannot be used"
        if self.count == 1:
            return f"{text}: {self._first}"
        others = first_of(self._others, self.count - 1)
        return f"{text}; the first: {self._first}; then {others}"


def place_of(error: DataError) -> tuple[str, int]:
    """Return the file and line with which the message of a row's error begins."""
    match = re.match(r"(.*?):(\d+): ", str(error))
    return (match[1], int(match[2])) if match else ("", 0)
