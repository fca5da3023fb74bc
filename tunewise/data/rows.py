"""Rows from JSON lines, CSV, TSV, Parquet or plain text, gzipped or not; a file or a folder."""

import csv
import gzip
import io
import json
import random
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewise.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet", ".txt")
HELD_OUT = 0.1
"""The share of a single file that is kept for validation, and again for testing."""


@dataclass(frozen=True)
class Row:
    """One row of data and where it stands."""

    values: dict[str, Any]
    origin: str
    """`path:line`, for the error that may have to name it."""

    @property
    def id(self) -> str:
        """`file:line`: unlike any other row's of the split, and the same on every machine."""
        return self.origin.rsplit("/", 1)[-1]

    def text(self, column: str) -> str:
        """Return a column that must hold text.

        Raises:
            DataError: if the column is missing or holds anything else.
        """
        value = self.value(column)
        if not isinstance(value, str):
            raise DataError(f"{self.origin}: column {column!r} holds {value!r}; text is needed")
        return self._writable(value)

    def _writable(self, text: str) -> str:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            character = text[error.start]
            raise DataError(
                f"{self.origin}: {character!r} is half a character; mend the text"
            ) from error
        return text

    def value(self, column: str) -> Any:
        """Return what a column holds.

        Raises:
            DataError: if the column is missing.
        """
        if column not in self.values:
            columns = ", ".join(map(str, self.values))
            raise DataError(f"{self.origin}: no column {column!r}; the row has: {columns}")
        return self.values[column]


def read_split(path: Path, split: Split, group: str | None = None) -> list[Row]:
    """Return the rows of one split.

    Args:
        path: a folder with files named for the splits (`train.jsonl`, `test_Hardy.txt.gz`,
            `train-00000-of-00002.parquet`), or one file, of which 80 % are for training, 10 % for
            validation and 10 % for testing: always the same rows, in the file's order.
        group: for one file, the column whose values shall have the same shares in every split.

    Raises:
        DataError: if there is no such file, or it holds no rows or broken ones.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _split_of(file) == split)
        if not files:
            endings = ", ".join(SUFFIXES)
            raise DataError(f"{path}: no file for the {split} split ({split}.* with {endings})")
        names = [file.name.removesuffix(".gz") for file in files]
        if twice := [name for name in names if names.count(name) > 1]:
            raise DataError(f"{path}: {twice[0]} is there twice, gzipped and not; keep one")
        return [row for file in files for row in read_rows(file)]
    rows = read_rows(path)
    return [rows[index] for index in _share(rows, split, group, path)]


def read_rows(path: Path) -> list[Row]:
    """Return all rows of a file.

    Raises:
        DataError: if it is missing, empty, not UTF-8, or a row is broken.
    """
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: the kind of file is not known; one of {', '.join(SUFFIXES)} is")
    if suffix == ".parquet":
        rows = _parquet(path)
    else:
        text = _text(path)
        if suffix == ".jsonl":
            rows = list(_json_lines(text, path))
        elif suffix == ".txt":
            rows = [Row({"text": text}, _origin(path, 1))] if text.strip() else []
        else:
            rows = list(_table(text, path, "\t" if suffix == ".tsv" else ","))
    if not rows:
        raise DataError(f"{path}: the file holds no rows")
    return rows


def _share(rows: list[Row], split: Split, group: str | None, path: Path) -> list[int]:
    """Return which rows of a single file belong to a split."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(str(row.value(group)) if group else "", []).append(index)
    if max(map(len, groups.values())) < 3:
        raise DataError(f"{path}: too few rows ({len(rows)}) to part into {', '.join(SPLITS)}")
    chosen: list[int] = []
    for _, members in sorted(groups.items()):
        random.Random(0).shuffle(members)
        # A group too small to be parted is for training, or its label would never be learnt.
        held_out = max(1, round(HELD_OUT * len(members))) if len(members) >= 3 else 0
        bounds = {"validation": (0, held_out), "test": (held_out, 2 * held_out)}
        start, stop = bounds.get(split, (2 * held_out, len(members)))
        chosen += members[start:stop]
    return sorted(chosen)


def _split_of(file: Path) -> str | None:
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
        content = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not UTF-8 (byte {error.start}); convert the file to UTF-8"
        ) from error


def _origin(path: Path, line: int) -> str:
    return f"{path.as_posix()}:{line}"


def _json_lines(text: str, path: Path) -> Iterator[Row]:
    # Only \n ends a row: str.splitlines would also cut at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}:{number}: the row is {line.strip()[:40]!r}, not a JSON object")
        yield Row(values, _origin(path, number))


def _table(text: str, path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # a field may be a whole book
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        columns = next(reader, [])
        for values in reader:
            if not values:
                continue
            if len(values) != len(columns):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(values)} fields; the header has {len(columns)}"
                )
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
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path}: not readable as Parquet: {error}") from error
    return [Row(row, _origin(path, number)) for number, row in enumerate(values, start=1)]
