"""Records of a table that is text, in a given dialect: the fields of each row, and its lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from tunewise.errors import DataError

Quotes = Literal["doubled", "escaped", "plain"]
"""How a quote within quotes is written: as two, or behind a backslash; plain ones mean nothing."""

LINE_END = re.compile(r"\r\n|\r|\n")
# Nothing is given back in these, so that they take linear time.
INSIDE: dict[Quotes, str] = {
    "doubled": '(?:[^"]++|"")*+',
    "escaped": r'(?:[^"\\]++|\\.|"")*+',
}
"""What stands between the quotes of a field."""
ESCAPED = re.compile(r'"(")|\\(["\\])')


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
    """Yield the records of a text whose first line has this number.

    Lines that are empty, or of blanks alone, are passed over, as by pandas.

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
        if content.strip(" \t") or dialect.delimiter in content:
            yield Record(line, line, content.split(dialect.delimiter))
        start, line = after, line + 1


def _quoted_record(
    text: str, start: int, line: int, dialect: Dialect, path: Path
) -> tuple[Record, int]:
    """Return a record of which a field may be quoted, and where the next one starts."""
    pattern, first, fields = _field_pattern(dialect), line, []
    while True:
        match = pattern.match(text, start)
        assert match is not None
        inside, bare, end = match.groups()
        if inside is None:
            if bare.lstrip(" ").startswith('"'):
                raise _broken_quotation(text, text.index('"', start) + 1, line, dialect, path)
            if _is_foreign(bare, dialect):
                raise DataError(f"{path}:{line}: a quote stands inside a field that is not quoted")
        else:
            line += len(LINE_END.findall(inside))
        is_plain = inside is None and dialect.quotes == "doubled"
        field = bare if inside is None else inside
        fields.append(field if is_plain else _unescaped(field, dialect))
        start = match.end()
        if end != dialect.delimiter:
            return Record(first, line, fields), start


@cache
def _field_pattern(dialect: Dialect) -> re.Pattern[str]:
    """Return the pattern of a field in quotes or without, and of what ends it."""
    delimiter = re.escape(dialect.delimiter)
    return re.compile(
        rf'(?: *+"({INSIDE[dialect.quotes]})" *+|([^{delimiter}\r\n]*+))'
        rf"({delimiter}|{LINE_END.pattern}|\Z)",
        re.DOTALL,
    )


def _broken_quotation(text: str, start: int, line: int, dialect: Dialect, path: Path) -> DataError:
    """Return the error of a field whose quote opens just before a place of the text."""
    inside = re.compile(INSIDE[dialect.quotes], re.DOTALL).match(text, start)
    assert inside is not None
    if inside.end() == len(text):
        return DataError(f"{path}:{line}: the quote that opens here is never closed")
    closing = line + len(LINE_END.findall(inside[0]))
    behind = LINE_END.split(text[inside.end() + 1 : inside.end() + 21])[0]
    return DataError(
        f"{path}:{line}: the quote that opens a field here is closed on line {closing}, with "
        f'{behind!r} behind it; a quote inside a quoted text is written twice ("")'
    )


def _is_foreign(field: str, dialect: Dialect) -> bool:
    """Return whether a field without quotes around it is written in another dialect."""
    if dialect.delimiter == "\t":
        # A CSV made by hand may hold 5" as it is; a TSV has such quotes, or quoting, but not both.
        return re.search(r'(?<!\\)"' if dialect.quotes == "escaped" else '"', field) is not None
    return dialect.quotes == "doubled" and '\\"' in field


def _unescaped(field: str, dialect: Dialect) -> str:
    if dialect.quotes == "doubled":
        return field.replace('""', '"')
    return ESCAPED.sub(lambda match: match[match.lastindex or 0], field)
