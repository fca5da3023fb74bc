"""Records of a table that is text, in a given dialect: the fields of each row, and its lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunewise.errors import DataError

Quotes = Literal["doubled", "escaped", "plain"]
"""How a quote within quotes is written: as two, or behind a backslash; plain ones mean nothing."""

LINE_END = re.compile(r"\r\n|\r|\n")
OPENING = re.compile(' *+"')
SPACES = re.compile(" *+")
INSIDE: dict[Quotes, re.Pattern[str]] = {
    "doubled": re.compile('(?:[^"]++|"")*+'),
    "escaped": re.compile(r'(?:[^"\\]++|\\.|"")*+', re.DOTALL),
}
"""What stands between the quotes of a field. Nothing is given back, so it takes linear time."""
ESCAPED: dict[Quotes, re.Pattern[str]] = {
    "doubled": re.compile('"(")'),
    "escaped": re.compile(r'"(")|\\(["\\])'),
}


@dataclass(frozen=True)
class Dialect:
    """The delimiter of fields, and what quotes mean."""

    delimiter: str
    quotes: Quotes = "doubled"


@dataclass(frozen=True)
class Record:
    """The fields of a row, and its first and last line."""

    first: int
    last: int
    fields: list[str]


def records_of(text: str, dialect: Dialect, path: Path, first: int = 1) -> Iterator[Record]:
    """Yield the records of a text whose first line has this number; empty lines are passed over.

    Raises:
        DataError: if quotes are not as the dialect says.
    """
    start, line = 0, first
    while start < len(text):
        end = LINE_END.search(text, start)
        stop, after = end.span() if end else (len(text), len(text))
        content = text[start:stop]
        if dialect.quotes != "plain" and '"' in content:
            record, start = _quoted_record(text, start, line, dialect, path)
            line = record.last + 1
            yield record
            continue
        if content:
            yield Record(line, line, content.split(dialect.delimiter))
        start, line = after, line + 1


def _quoted_record(
    text: str, start: int, line: int, dialect: Dialect, path: Path
) -> tuple[Record, int]:
    """Return a record of which a field may be quoted, and where the next one starts."""
    unquoted = re.compile(f"[^{re.escape(dialect.delimiter)}\r\n]*+")
    first, fields = line, []
    while True:
        if opening := OPENING.match(text, start):
            stop = _closing(text, opening.end(), line, dialect, path)
            inside = text[opening.end() : stop]
            fields.append(_unescaped(inside, dialect))
            line += len(LINE_END.findall(inside))
            behind = SPACES.match(text, stop + 1)
            start = behind.end() if behind else stop + 1
        else:
            match = unquoted.match(text, start)
            assert match is not None
            if _is_foreign(match[0], dialect):
                raise DataError(f"{path}:{line}: a quote stands inside a field that is not quoted")
            escaped = dialect.quotes == "escaped"
            fields.append(_unescaped(match[0], dialect) if escaped else match[0])
            start = match.end()
        if not text.startswith(dialect.delimiter, start):
            end = LINE_END.match(text, start)
            return Record(first, line, fields), end.end() if end else len(text)
        start += 1


def _closing(text: str, start: int, line: int, dialect: Dialect, path: Path) -> int:
    """Return the place of the quote that closes a field.

    Raises:
        DataError: if there is none, or the field goes on behind it.
    """
    inside = INSIDE[dialect.quotes].match(text, start)
    assert inside is not None
    stop = inside.end()
    if not text.startswith('"', stop):
        raise DataError(f"{path}:{line}: the quote that opens here is never closed")
    if not re.compile(rf" *+(?:{re.escape(dialect.delimiter)}|[\r\n]|\Z)").match(text, stop + 1):
        closing = line + len(LINE_END.findall(inside[0]))
        behind = text[stop + 1 : stop + 21].splitlines()[0]
        raise DataError(
            f"{path}:{line}: the quote that opens a field here is closed on line {closing}, with "
            f'{behind!r} behind it; a quote inside a quoted text is written twice ("")'
        )
    return stop


def _is_foreign(field: str, dialect: Dialect) -> bool:
    """Return whether a field without quotes around it is written in another dialect."""
    if dialect.delimiter == "\t":
        # A CSV made by hand may hold 5" as it is; a TSV has such quotes, or quoting, but not both.
        return re.search(r'(?<!\\)"' if dialect.quotes == "escaped" else '"', field) is not None
    return dialect.quotes == "doubled" and '\\"' in field


def _unescaped(field: str, dialect: Dialect) -> str:
    return ESCAPED[dialect.quotes].sub(lambda match: match[match.lastindex or 0], field)
