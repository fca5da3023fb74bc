"""Rows of files: JSON lines, a JSON list, CSV, TSV, Parquet or plain text, gzipped or not."""

import gzip
import re
import reprlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal

from tunewise.data.names import column_names
from tunewise.data.objects import list_inside, object_columns, read_json
from tunewise.data.tables import BYTE_ORDER_MARK, MARK_INSIDE, table_rows
from tunewise.errors import DataError, nearest

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MAX_ROW = 2**27
"""Largest row of a streamed file, in bytes."""
MAX_PACKED = 200
"""Most bytes of text per byte of a gzipped file: rows shrink to a tenth, copies to a hundredth."""
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
OTHER_KINDS = {
    **dict.fromkeys((".ndjson", ".jsonlines", ".jl"), "; JSON lines are named .jsonl"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "; save it as 'CSV UTF-8'"),
    ".arrow": "; write it with to_parquet, of datasets or pandas",
}
"""What to do with files of other kinds, by their endings."""
USUAL_DELIMITERS = {".csv": ",", ".tsv": "\t"}

OnBadRow = Callable[[DataError], None]
"""Takes the error of a row that cannot be used; if it returns, reading goes on without the row."""


def refuse_row(error: DataError) -> None:
    """Raise the error: one bad row ends the reading."""
    raise error


@dataclass(frozen=True)
class Row:
    """One row of data and its place."""

    values: dict[str, Any]
    """The values as they are in the file, by the names of their columns."""
    origin: str
    """Place of the row, `path:line` of its first line, for errors."""
    number: int | None = None
    """Number of the row in its file, from 0, as pandas counts: broken rows count, blank lines do
    not. None for what comes from no file."""

    @property
    def id(self) -> str:
        """Id of the row, `file:line`: unique in the split, and the same on every machine."""
        return self.origin.rsplit("/", 1)[-1]

    @property
    def suffix(self) -> str:
        """The ending of the row's file, which says what kind of file it is."""
        return suffix_of(Path(self.origin.rpartition(":")[0]))

    def text(self, column: str) -> str:
        """Return a column that must hold text; no value (null) is the empty text in every format.

        Raises:
            DataError: if the column is missing or holds anything else.
        """
        value = self.value(column)
        if value is None:
            return ""
        if not isinstance(value, str):
            found = reprlib.repr(value)
            raise DataError(f"{self.origin}: column {column!r} holds {found}; text is needed")
        return self._writable(value)

    def key(self, column: str) -> str:
        """Return a column that holds a key of the user's: a text or a whole number.

        Raises:
            DataError: if the column is missing or holds anything else.
        """
        value = self.value(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            found = reprlib.repr(value)
            raise DataError(
                f"{self.origin}: column {column!r} holds {found}; a key is needed, a text or a "
                "whole number"
            )
        return self._writable(str(value))

    def _writable(self, text: str) -> str:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            character = text[error.start]
            raise DataError(
                f"{self.origin}: {character!r} is half a character; correct the text"
            ) from error
        return text

    def value(self, column: str) -> Any:
        """Return the value of a column.

        Raises:
            DataError: if the column is missing.
        """
        if column not in self.values:
            columns = ", ".join(map(str, self.values))
            if self.suffix in USUAL_DELIMITERS:
                where, hint = "the first line names", _header_hint(column, [*self.values])
            else:
                where, hint = "the row has", ""
            close = nearest(column, map(str, self.values)).partition("known:")[0]
            hint = "" if close and len(self.values) > 1 else hint
            raise DataError(f"{self.origin}: no column {column!r}; {close}{where}: {columns}{hint}")
        return self.values[column]


def read_rows(path: Path, on_bad_row: OnBadRow = refuse_row) -> list[Row]:
    """Return all rows of a file.

    Args:
        on_bad_row: takes the error of each row that is broken while its neighbours are not.

    Raises:
        DataError: if it is missing, empty or not UTF-8, or a row is broken.
    """
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        hint = OTHER_KINDS.get(suffix, "")
        raise DataError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}{hint}")
    if suffix == ".parquet":
        rows = _parquet(path)
    else:
        text = _text(path)
        if suffix == ".jsonl":
            # Only \n ends a row: str.splitlines also cuts at characters that JSON strings hold.
            rows = list(_json_lines(text.split("\n"), path, on_bad_row))
        elif suffix == ".json":
            rows = list(_json_list(text, path, on_bad_row))
        elif suffix == ".txt":
            rows = [Row({"text": text}, _origin(path, 1), 0)] if text.strip() else []
        else:
            table = table_rows(text, path, USUAL_DELIMITERS[suffix], on_bad_row)
            rows = [Row(row.values, _origin(path, row.line), row.number) for row in table]
    if not rows:
        raise _no_rows(path)
    return rows


def stream_rows(path: Path, on_bad_row: OnBadRow = refuse_row) -> Iterator[Row]:
    """Yield the rows of a file; JSON lines are read one at a time, so that memory does not grow.

    Args:
        on_bad_row: as in `read_rows`.

    Raises:
        DataError: as `read_rows`, when the broken row is reached.
    """
    if suffix_of(path) != ".jsonl":
        yield from read_rows(path, on_bad_row)
        return
    found = False
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            for row in _json_lines(_lines(file, path), path, on_bad_row):
                found = True
                yield row
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not found:
        raise _no_rows(path)


def suffix_of(path: Path) -> str:
    """Return the ending of a file's name, in lower case and without `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _header_hint(column: str, names: list[str]) -> str:
    """Return what to do if a table's first line does not name a column."""
    if len(names) == 1 and (match := re.search(rf"\b{re.escape(column)}\b", names[0])):
        around = names[0][match.end() :][:1] or names[0][: match.start()][-1:]
        return f"; if {around!r} separates its fields, write a line above it: sep={around}"
    return "; if it is no header, put one there, or remove what is above it"


def _text(path: Path) -> str:
    """Return a file's text, without a byte-order mark."""
    try:
        content = _unpacked(path) if path.name.lower().endswith(".gz") else path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return _decoded(content, path)


def _unpacked(path: Path) -> bytes:
    """Return the content of a gzipped file.

    Raises:
        DataError: if it is far larger than text would be.
    """
    max_bytes = max(MAX_ROW, MAX_PACKED * path.stat().st_size)
    with gzip.open(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise DataError(
            f"{path}: unpacks to more than {max_bytes:,} bytes, far more than text; unpack it first"
        )
    return content


def _decoded(content: bytes, path: Path, first: int = 1) -> str:
    """Return the text of some lines, the first of which has this number.

    Raises:
        DataError: if it is not UTF-8.
    """
    if first == 1 and _is_utf16(content[:8]):
        raise DataError(
            f"{path}: not UTF-8 but UTF-16, as Excel's 'Unicode Text' is; save it as 'CSV UTF-8', "
            f"or convert it: iconv -f UTF-16 -t UTF-8 {path.name}"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + first
        raise DataError(
            f"{path}:{line}: not UTF-8 (byte {error.start}); convert the file to UTF-8"
        ) from error
    return text.lstrip(BYTE_ORDER_MARK) if first == 1 else text


def _is_utf16(start: bytes) -> bool:
    """Return whether a text begins with UTF-16's mark, or with ASCII in two bytes each."""
    is_marked = start[:2] in (b"\xff\xfe", b"\xfe\xff")
    return is_marked or {0} in (set(start[::2]), set(start[1::2]))


def _no_rows(path: Path) -> DataError:
    return DataError(f"{path}: the file holds no rows that can be used")


def _origin(path: Path, line: int) -> str:
    return f"{path.as_posix()}:{line}"


def _lines(file: BufferedIOBase, path: Path) -> Iterator[str]:
    """Yield the lines of a file, one at a time.

    Raises:
        DataError: if a line is too long, or not UTF-8.
    """
    lines = iter(partial(file.readline, MAX_ROW + 1), b"")
    for number, content in enumerate(lines, start=1):
        if len(content) > MAX_ROW:
            raise DataError(f"{path}:{number}: the row is longer than {MAX_ROW:,} bytes")
        yield _decoded(content, path, number)


def _json_lines(lines: Iterable[str], path: Path, on_bad_row: OnBadRow) -> Iterator[Row]:
    filled = ((place, line) for place, line in enumerate(lines, start=1) if line.strip())
    for number, (place, line) in enumerate(filled):
        origin = _origin(path, place)
        try:
            if line.startswith(BYTE_ORDER_MARK):
                raise DataError(f"{origin}: {MARK_INSIDE}")
            values = object_columns(read_json(line, origin), origin)
        except DataError as error:
            on_bad_row(error)
            continue
        yield Row(values, origin, number)


def _json_list(text: str, path: Path, on_bad_row: OnBadRow) -> Iterator[Row]:
    """Yield the objects of a JSON list; a row's number is its place in the list, from 1."""
    try:
        rows = read_json(text, str(path)) if text.strip() else []
    except DataError as error:
        is_several = "Extra data" in str(error)
        hint = "; put the values in one list, or name JSON lines .jsonl" if is_several else ""
        raise DataError(f"{error}{hint}") from error
    if not isinstance(rows, list):
        found = "an object" if isinstance(rows, dict) else reprlib.repr(rows)
        raise DataError(f"{path}: holds {found}; a list of objects is needed{list_inside(rows)}")
    for number, row in enumerate(rows, start=1):
        origin = _origin(path, number)
        try:
            values = object_columns(row, origin)
        except DataError as error:
            on_bad_row(error)
            continue
        yield Row(values, origin, number - 1)


def _parquet(path: Path) -> list[Row]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet needs an extra: pip install 'tunewise[parquet]'"
        ) from error
    try:
        table = parquet.read_table(path)
        names = column_names(table.column_names, str(path))
        values = table.rename_columns(names).select(list(filter(None, names))).to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, OverflowError, arrow.ArrowException) as error:
        raise DataError(f"{path}: not readable as Parquet: {error}") from error
    return [
        Row(row, _origin(path, number), number - 1) for number, row in enumerate(values, start=1)
    ]
