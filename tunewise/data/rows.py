"""Rows of files: JSON lines, a JSON list, CSV, TSV, Parquet or plain text, gzipped or not."""

import csv
import gzip
import io
import json
import reprlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tunewise.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MAX_ROW = 2**27
"""Largest row of a streamed file, in bytes."""
MAX_PACKED = 200
"""Most bytes of text per byte of a gzipped file: rows shrink to a tenth, copies to a hundredth."""
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")

OnBadRow = Callable[[DataError], None]
"""Takes the error of a row that cannot be used; if it returns, reading goes on without the row."""


def refuse_row(error: DataError) -> None:
    """Raise the error: one bad row ends the reading."""
    raise error


@dataclass(frozen=True)
class Row:
    """One row of data and its place."""

    values: dict[str, Any]
    origin: str
    """Place of the row, `path:line`, for errors."""

    @property
    def id(self) -> str:
        """Id of the row, `file:line`: unique in the split, and the same on every machine."""
        return self.origin.rsplit("/", 1)[-1]

    def text(self, column: str) -> str:
        """Return a column that must hold text.

        Raises:
            DataError: if the column is missing or holds anything else.
        """
        value = self.value(column)
        if not isinstance(value, str):
            found = reprlib.repr(value)
            raise DataError(f"{self.origin}: column {column!r} holds {found}; text is needed")
        return self._writable(value)

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
            raise DataError(f"{self.origin}: no column {column!r}; the row has: {columns}")
        return self.values[column]


def split_files(folder: Path) -> dict[Split, list[Path]]:
    """Return the files of each split of a folder: those whose names begin with the split's name.

    Raises:
        DataError: if a file is there twice, gzipped and not.
    """
    files: dict[Split, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if (split := _split_of(file)) is not None:
            files.setdefault(split, []).append(file)
    for of_split in files.values():
        names = [file.name.removesuffix(".gz") for file in of_split]
        if twice := [name for name in names if names.count(name) > 1]:
            raise DataError(f"{folder}: {twice[0]} is there twice, gzipped and not; keep one")
    return files


def read_rows(path: Path, on_bad_row: OnBadRow = refuse_row) -> list[Row]:
    """Return all rows of a file.

    Args:
        on_bad_row: takes the error of each row that is broken while its neighbours are not.

    Raises:
        DataError: if it is missing, empty or not UTF-8, or a row is broken.
    """
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}")
    if suffix == ".parquet":
        rows = _parquet(path)
    else:
        text = _text(path)
        if suffix == ".jsonl":
            # Only \n ends a row: str.splitlines also cuts at characters that JSON strings hold.
            rows = list(_json_lines(text.split("\n"), path, on_bad_row=on_bad_row))
        elif suffix == ".json":
            rows = list(_json_list(text, path, on_bad_row))
        elif suffix == ".txt":
            rows = [Row({"text": text}, _origin(path, 1))] if text.strip() else []
        else:
            rows = list(_table(text, path, "\t" if suffix == ".tsv" else ",", on_bad_row))
    if not rows:
        raise DataError(f"{path}: the file holds no rows")
    return rows


def stream_rows(path: Path, on_bad_row: OnBadRow = refuse_row) -> Iterator[Row]:
    """Yield the rows of a file; JSON lines are read one at a time, so that memory does not grow.

    Args:
        on_bad_row: as in `read_rows`.

    Raises:
        DataError: as `read_rows`, when the broken row is reached.
    """
    if _suffix(path) != ".jsonl":
        yield from read_rows(path, on_bad_row)
        return
    try:
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as file:
            lines = iter(partial(file.readline, MAX_ROW + 1), b"")
            for number, content in enumerate(lines, start=1):
                if len(content) > MAX_ROW:
                    raise DataError(f"{path}:{number}: the row is longer than {MAX_ROW:,} bytes")
                line = _decoded(content, path, number)
                yield from _json_lines([line], path, number, on_bad_row)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _split_of(file: Path) -> Split | None:
    """Return the split that a file's name begins with, if it is a data file."""
    if _suffix(file) not in SUFFIXES:
        return None
    name = file.name.lower()
    return next((s for s in SPLITS if name.startswith((f"{s}.", f"{s}-", f"{s}_"))), None)


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


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
    """Return the text of some lines, the first of which has this number."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + first
        raise DataError(
            f"{path}:{line}: not UTF-8 (byte {error.start}); convert the file to UTF-8"
        ) from error


def _origin(path: Path, line: int) -> str:
    return f"{path.as_posix()}:{line}"


def _json_lines(
    lines: Iterable[str], path: Path, first: int = 1, on_bad_row: OnBadRow = refuse_row
) -> Iterator[Row]:
    for number, line in enumerate(lines, start=first):
        if not line.strip():
            continue
        try:
            values = _json(line, f"{path}:{number}")
            if not isinstance(values, dict):
                found = repr(line.strip()[:40])
                raise DataError(f"{path}:{number}: the row is {found}, not a JSON object")
        except DataError as error:
            on_bad_row(error)
            continue
        yield Row(values, _origin(path, number))


def _json_list(text: str, path: Path, on_bad_row: OnBadRow) -> Iterator[Row]:
    """Yield the objects of a JSON list; a row's number is its place in the list, from 1."""
    rows = _json(text, str(path)) if text.strip() else []
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a {type(rows).__name__}; a list of objects is needed")
    for number, values in enumerate(rows, start=1):
        if not isinstance(values, dict):
            found = reprlib.repr(values)
            on_bad_row(DataError(f"{path}:{number}: the row is {found}, not a JSON object"))
            continue
        yield Row(values, _origin(path, number))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}") from error


def _table(text: str, path: Path, delimiter: str, on_bad_row: OnBadRow) -> Iterator[Row]:
    """Yield the rows of CSV or TSV. This lifts the csv module's limit on fields, for good."""
    csv.field_size_limit(sys.maxsize)  # a field may be a whole book
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        columns = next(reader, [])
        for values in reader:
            if not values:
                continue
            if len(values) != len(columns):
                found = f"{len(values)} fields; the header has {len(columns)}"
                on_bad_row(DataError(f"{path}:{reader.line_num}: {found}"))
                continue
            yield Row(dict(zip(columns, values, strict=True)), _origin(path, reader.line_num))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not a valid table: {error}") from error


def _parquet(path: Path) -> list[Row]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet needs an extra: pip install 'tunewise[parquet]'"
        ) from error
    try:
        values = parquet.read_table(path).to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, OverflowError, arrow.ArrowException) as error:
        raise DataError(f"{path}: not readable as Parquet: {error}") from error
    return [Row(row, _origin(path, number)) for number, row in enumerate(values, start=1)]
