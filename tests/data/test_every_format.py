"""One rule for all formats: names of columns, values that are missing, and JSON that is JSON."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from row_formats import Rows, parquet_of, table

from tunewise.data.rows import Row, read_rows, stream_rows
from tunewise.errors import DataError

WRITERS: dict[str, Callable[[Rows], bytes]] = {
    "a.jsonl": lambda rows: "\n".join(json.dumps(row) for row in rows).encode(),
    "b.jsonl": lambda rows: "".join(
        json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows
    ).encode(),
    "a.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "a.csv": lambda rows: table(rows, ",", csv.QUOTE_MINIMAL),
    "b.csv": lambda rows: table(rows, ";", csv.QUOTE_ALL),
    "c.csv": lambda rows: b"sep=|\r\n" + table(rows, "|", csv.QUOTE_MINIMAL),
    "a.tsv": lambda rows: table(rows, "\t", csv.QUOTE_MINIMAL),
    "b.tsv": lambda rows: table(rows, "\t", csv.QUOTE_ALL),
    "a.parquet": parquet_of,
}


def test_no_value_is_the_empty_text_and_the_value_as_read_is_kept() -> None:
    row = Row({"text": None, "label": ""}, "a.jsonl:1")
    assert row.text("text") == row.text("label") == ""
    assert row.values == {"text": None, "label": ""}
    with pytest.raises(DataError, match="no column 'summary'"):
        row.text("summary")


def test_names_of_columns_are_read_without_spaces_in_every_format(tmp_path: Path) -> None:
    rows: Rows = [{" text": "a", "label ": "b", "": "no name"}]
    for name, content_of in WRITERS.items():
        (tmp_path / name).write_bytes(content_of(rows))
        assert read_rows(tmp_path / name)[0].values == {"text": "a", "label": "b"}, name


def test_two_names_that_differ_in_spaces_are_refused_in_every_format(tmp_path: Path) -> None:
    rows: Rows = [{"text": "a", " text ": "b"}]
    for name, content_of in WRITERS.items():
        (tmp_path / name).write_bytes(content_of(rows))
        with pytest.raises(DataError, match=rf"{name}.*: column 'text' is there twice"):
            read_rows(tmp_path / name)


# JSON is JSON.

NO_JSON: dict[str, str] = {
    '{"text": "a", "text": "b"}': "the key 'text' is there twice; keep one",
    '{"text": "a", "more": {"a": [{"b": 1, "b": 2}]}}': "the key 'b' is there twice",
    '{"text": "a", "score": NaN}': "NaN is no value of JSON; write null",
    '{"text": "a", "scores": [1, {"a": -Infinity}]}': "-Infinity is no value of JSON",
    '{"text": Infinity}': "Infinity is no value",
    "NaN": "NaN is no value",
}


@pytest.mark.parametrize("row", NO_JSON)
def test_what_only_looks_like_json_is_found_on_its_row_and_the_others_can_be_used(
    tmp_path: Path, row: str
) -> None:
    good = '{"text": "a"}'
    (tmp_path / "a.jsonl").write_text(f"{good}\n{row}\n{good}\n")
    (tmp_path / "a.json").write_text(f"[{good}, {row}, {good}]")
    for name, read in (("a.jsonl", read_rows), ("a.jsonl", stream_rows), ("a.json", read_rows)):
        errors: list[DataError] = []
        assert len(list(read(tmp_path / name, errors.append))) == 2
        (error,) = errors
        assert f"{name}:2: not valid JSON: {NO_JSON[row]}" in str(error)


def test_a_byte_order_mark_inside_a_file_is_found_on_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"text": "a"}\n\ufeff{"text": "b"}\n{"text": "\ufeffc"}\n', "utf-8")
    for read in (read_rows, stream_rows):
        errors: list[DataError] = []
        rows: list[Any] = list(read(path, errors.append))
        assert [row.text("text") for row in rows] == ["a", "\ufeffc"]
        assert [str(error).partition(":")[2][:19] for error in errors] == ["2: a byte-order mar"]


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "text,label\na\nb\n"), ("a.jsonl", "1\n2\n")]
)
@pytest.mark.parametrize("read", [read_rows, stream_rows])
def test_a_file_of_which_no_row_can_be_used_is_refused_after_all_its_rows(
    tmp_path: Path, read: Any, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    errors: list[DataError] = []
    with pytest.raises(DataError, match=f"{name}: the file holds no rows that can be used"):
        list(read(tmp_path / name, errors.append))
    assert len(errors) == 2
