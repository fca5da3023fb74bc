"""Names as people type them, of columns and labels: the same name has one form everywhere."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

AROUND = re.compile(r"^[\s\ufeff\u200b]+|[\s\ufeff\u200b]+$")
"""Spaces, and characters of no width, at both ends."""


def tidy(name: str) -> str:
    """Return a name without the spaces around it, its characters composed (Unicode's NFC)."""
    return AROUND.sub("", unicodedata.normalize("NFC", name))


Column = Annotated[str, AfterValidator(tidy)]
"""The name of a column."""
