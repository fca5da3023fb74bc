"""Tables as text, CSV and TSV: the dialect a file is written in, and its rows.

The dialect that the file's ending stands for is tried first; another is used if its header or its
rows do not fit, and that is logged. What could be read in two ways is refused.
"""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tunewise.data.names import column_names
from tunewise.data.records import LINE_END, Dialect, Quotes, Record, records_of
from tunewise.data.say_once import say_once
from tunewise.errors import DataError

logger = logging.getLogger(__name__)

BYTE_ORDER_MARK = "\ufeff"
MARK_INSIDE = "a byte-order mark begins the row; were two files put together? Remove it"
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
DECLARED = re.compile(r'"?sep=([^\r\n])"?(\r\n|\r|\n)')
"""A first line that names the delimiter, as Excel reads it."""
QUOTES: dict[Quotes, str] = {
    "doubled": "",
    "escaped": 'a quote within quotes is written \\"',
    "plain": "quotes are characters like any other",
}


class TableRow(NamedTuple):
    """One row of a table."""

    line: int
    """The line of the file that it begins on."""
    number: int
    """Its number among all rows, from 0; see `Row.number`."""
    values: dict[str, str]
    """Its fields by the names of their columns."""


@dataclass(frozen=True)
class Table:
    """All records of a file in one dialect; the first is the header."""

    dialect: Dialect
    records: list[Record]

    @cached_property
    def num_misfits(self) -> int:
        """Number of rows with more or fewer fields than the header."""
        count = len(self.records[0].fields)
        return sum(len(record.fields) != count for record in self.records)

    @cached_property
    def long_records(self) -> list[Record]:
        """The rows of several lines."""
        return [record for record in self.records[1:] if record.last > record.first]


def table_rows(
    text: str, path: Path, usual: str, on_bad_row: Callable[[DataError], None]
) -> Iterator[TableRow]:
    """Yield each row; columns without a name are left out.

    Args:
        usual: the delimiter that the file's ending stands for.
        on_bad_row: takes the error of each row that does not fit the header.

    Raises:
        DataError: if the header cannot be used, or it is unclear where rows begin and end.
    """
    declared = DECLARED.match(text)
    delimiters = [declared[1]] if declared else sorted(DELIMITERS, key=lambda d: d != usual)
    body = text[declared.end() :] if declared else text
    if not body.strip("\r\n"):
        return
    table = _best_table(body, path, delimiters, 2 if declared else 1)
    _say_dialect(table, path, usual)
    header = table.records[0]
    try:
        columns = column_names(header.fields, f"{path}:{header.first}")
    except DataError as error:
        is_row = any(field.strip().isdecimal() for field in header.fields)
        hint = "; if the line is a row, put a header above it" if is_row else ""
        raise DataError(f"{error}{hint}") from error
    if fault := _headers_fault(table):
        raise DataError(f"{path}:{header.first}: {fault}")
    for number, record in enumerate(table.records[1:]):
        if len(record.fields) != len(columns) and not any(map(str.strip, record.fields)):
            continue  # a line of delimiters
        if fault := _fault(record, columns, table.dialect):
            on_bad_row(DataError(f"{path}:{record.first}: {fault}"))
            continue
        values = dict(zip(columns, record.fields, strict=True))
        values.pop("", None)
        yield TableRow(record.first, number, values)


def _headers_fault(table: Table) -> str:
    """Return what is wrong with a header if several rows have the same number of fields, a larger.

    A single row is not enough: its text may hold a delimiter.
    """
    header, *rows = table.records
    counts = {len(row.fields) for row in rows}
    given, delimiter = len(header.fields), repr(table.dialect.delimiter)
    if len(rows) < 2 or len(counts) > 1 or (count := counts.pop()) <= given:
        return ""
    fault = f"each row has {count} fields, but the header {given} ({', '.join(header.fields)})"
    if count == given + 1 and not any(row.fields[-1].strip() for row in rows):
        return f"{fault}, and the last is empty: write {delimiter} at its end too"
    firsts = {row.fields[0].strip() for row in rows}
    if count == given + 1 and len(firsts) == len(rows) and all(map(str.isdecimal, firsts)):
        return (
            f"{fault}: if the first is the row's number, as R writes it, begin it with {delimiter}"
        )
    return f"{fault}: remove lines above the header, or put quotes around texts with {delimiter}"


def _fault(record: Record, columns: list[str], dialect: Dialect) -> str:
    """Return what is wrong with a row, if anything is."""
    fields = record.fields
    if fields[0].startswith(BYTE_ORDER_MARK):
        return MARK_INSIDE
    if len(fields) != len(columns):
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        quote = f"; a text with {dialect.delimiter!r} in it needs quotes around it"
        if len(columns) == 1:
            quote += ", and lines above the header have to go"
        hint = quote if len(fields) > len(columns) and dialect.quotes != "plain" else ""
        return f"{count}; the header has {len(columns)} ({', '.join(columns)}){hint}"
    if fields[0].strip() in columns and sorted(map(str.strip, fields)) == sorted(columns):
        return "the header again; were two files put together? Remove the line"
    return ""


def _best_table(text: str, path: Path, delimiters: list[str], first: int) -> Table:
    """Return the table in the dialect that its rows fit best.

    A delimiter that splits the header is preferred to one that does not, then the first.

    Raises:
        DataError: if no dialect fits, or several but the first delimiter's.
    """
    splitting = [d for d in delimiters if _splits_header(text, path, d)] or delimiters[:1]
    tables: list[Table] = []
    errors: list[DataError] = []
    for delimiter in splitting:
        try:
            tables.append(_read(text, path, delimiter, first))
        except DataError as error:
            errors.append(error)
        if tables and delimiter == delimiters[0] and not tables[0].num_misfits:
            return tables[0]
    if not tables:
        raise errors[0]
    best = min(tables, key=lambda table: table.num_misfits)
    if delimiters[0] not in splitting and 2 * best.num_misfits > len(best.records):
        return _read(text, path, delimiters[0], first)  # the first line is no header, but a text
    equal = [t.dialect.delimiter for t in tables if t.num_misfits == best.num_misfits]
    if len(equal) > 1 and delimiters[0] not in equal:
        names = " or ".join(DELIMITERS[delimiter] for delimiter in equal)
        raise DataError(
            f"{path}: are its fields separated by {names}? Say so in a first line: sep={equal[0]}"
        )
    return best


def _splits_header(text: str, path: Path, delimiter: str) -> bool:
    """Return whether the header has several columns with a delimiter."""
    try:
        return len(next(records_of(text, Dialect(delimiter), path)).fields) > 1
    except DataError:
        return False


def _read(text: str, path: Path, delimiter: str, first: int) -> Table:
    """Return the table with the meaning of quotes that its rows fit best.

    Raises:
        DataError: if it cannot be read with any.
    """
    meanings: list[Quotes] = ["doubled"]
    meanings += ["escaped"] if '\\"' in text else []
    # A TSV of a spreadsheet quotes each field with a quote in it; others have no quoting at all.
    meanings += ["plain"] if delimiter == "\t" and '"' in text else []
    tables: list[Table] = []
    errors: list[DataError] = []
    for quotes in meanings:
        dialect = Dialect(delimiter, quotes)
        try:
            table = Table(dialect, list(records_of(text, dialect, path, first)))
            _refuse_swallowed_rows(table, text, path, first)
        except DataError as error:
            errors.append(error)
            continue
        if not table.num_misfits:
            return table
        tables.append(table)
    if not tables:
        raise errors[0]
    return min(tables, key=lambda table: table.num_misfits)


def _refuse_swallowed_rows(table: Table, text: str, path: Path, first: int) -> None:
    """Refuse a quoted field whose lines look like rows of their own.

    A quote that is never closed takes in the rows below it, up to one that ends with a quote.

    Raises:
        DataError: if there is one.
    """
    header, delimiter = table.records[0], table.dialect.delimiter
    lines = LINE_END.split(text)
    if len(header.fields) == 1 or '"' in "".join(lines[: header.last - first + 1]):
        return  # names in quotes: texts are too, and the next row's quote would end the reading
    known: list[set[str]] | None = None
    for record in table.long_records:
        inside = lines[record.first - first : record.last - first + 1]
        parts = [line.split(delimiter) for line in inside if line]
        if all(len(part) == len(header.fields) for part in parts):
            known = known or _known_values(table)
            if _look_like_rows(parts, known, delimiter):
                raise DataError(
                    f"{path}:{record.first}: the quote that opens here is closed on line "
                    f"{record.last}, and the lines from here to there look like rows of their own; "
                    'close it on its line, or write it twice ("") within quotes'
                )


def _look_like_rows(parts: list[list[str]], known: list[set[str]], delimiter: str) -> bool:
    """Return whether lines of a quoted field, with as many fields as the header, are rows."""
    if all(any(map(set.__contains__, known, part)) for part in parts):
        return True  # each has a value that other rows have in the same column
    # No text is put behind a delimiter as it is behind a comma; texts hardly ever hold tabs.
    is_spaced = any(field.startswith(" ") for part in parts for field in part[1:])
    is_full = all(field.strip() for part in parts for field in part)
    return is_full and not is_spaced and (len(parts) > 2 or delimiter == "\t")


def _known_values(table: Table) -> list[set[str]]:
    """Return the values of each column in the rows of one line."""
    header, *rows = table.records
    known: list[set[str]] = [set() for _ in header.fields]
    for row in rows:
        if row.first == row.last and len(row.fields) == len(known):
            for values, field in zip(known, row.fields, strict=True):
                values |= {field} - {""}
    return known


def _say_dialect(table: Table, path: Path, usual: str) -> None:
    """Say how a file is read, where that is not plain from its ending."""
    delimiter, long = table.dialect.delimiter, table.long_records
    said = [QUOTES[table.dialect.quotes]]
    if delimiter != usual:
        said.append(f"fields are separated by {DELIMITERS.get(delimiter, repr(delimiter))}")
    if long:
        lines = f"lines {long[0].first} to {long[0].last}"
        said.append(f"quoted texts of several lines: {len(long)} (the first on {lines})")
    if any(said):
        say_once(logger, logging.INFO, f"{path}: {'; '.join(filter(None, said))}")
