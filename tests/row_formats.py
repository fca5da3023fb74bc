"""The same rows as files of several formats."""

import csv
import io
from typing import Literal

import pyarrow as arrow
from pyarrow import parquet

Rows = list[dict[str, str | None]]
Quoting = Literal[0, 1]
"""Python's `csv.QUOTE_MINIMAL` and `csv.QUOTE_ALL`."""


def table(rows: Rows, delimiter: str, quoting: Quoting, ending: str = "\n") -> bytes:
    """Return a table under a header; None becomes an empty cell."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(
        buffer, rows[0], delimiter=delimiter, quoting=quoting, lineterminator=ending
    )
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def parquet_of(rows: Rows) -> bytes:
    """Return a Parquet file whose columns are text."""
    sink = arrow.BufferOutputStream()
    schema = arrow.schema([(name, arrow.string()) for name in rows[0]])
    parquet.write_table(arrow.Table.from_pylist(rows, schema), sink)
    return bytes(sink.getvalue())
