"""Names as people type them, of columns and labels: the same name has one form."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator


def tidy(name: str) -> str:
    """Return a name without the spaces around it, its characters composed (Unicode's NFC)."""
    return unicodedata.normalize("NFC", name).strip()


Column = Annotated[str, AfterValidator(tidy)]
"""The name of a column."""
