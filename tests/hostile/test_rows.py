"""Rows that mean harm are data, or one line that names the row."""

import gzip
import json
import struct
import time
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from tunewise.config import RunConfig
from tunewise.data import rows as rows_module
from tunewise.data.rows import read_rows, refuse_row, stream_rows
from tunewise.data.splits import read_split
from tunewise.errors import DataError, TunewiseError
from tunewise.settings import validate
from tunewise.tasks import AnyTask


def task(kind: str, path: Path, **fields: Any) -> AnyTask:
    values = {"task": {"kind": kind, "path": path, **fields}}
    return validate(RunConfig, values, "test").task


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


FILES: dict[str, tuple[str, bytes, str]] = {
    "bytes that are no UTF-8": ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "a.jsonl:2"),
    "half a character in bytes": ("a.csv", b"text\n\xed\xa0\x80\n", "a.csv:2"),
    "UTF-16": ("a.jsonl", '{"text": "a"}\n'.encode("utf-16"), "not UTF-8"),
    "a NUL in JSON": ("a.jsonl", b'{"text": "a\0b"}\n', "a.jsonl:1"),
    "a row that is a number": ("a.jsonl", b'{"text": "a"}\n7\n', "a.jsonl:2"),
    "a row that never ends": ("a.jsonl", b'{"text": "a\n', "a.jsonl:1"),
    "JSON of any depth": ("a.jsonl", ('{"text": ' + deep(100_000) + "}\n").encode(), "a.jsonl:1"),
    "a list of any depth": ("a.json", deep(100_000).encode(), "a.json"),
    "a number without end": ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}\n", "a.jsonl:1"),
    "fields past the header": ("a.csv", b"text\na,b\n", "a.csv:2"),
    "a quote that never ends": ("a.csv", b'text\n"a\n', "a.csv"),
    "nothing": ("a.csv", b"", "no rows"),
    "blanks": ("a.txt", b" \n\t\r\n", "no rows"),
    "half a gzip file": ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:40], "a.jsonl.gz"),
    "no gzip file": ("a.csv.gz", b"text\na\n", "a.csv.gz"),
    "no Parquet": ("a.parquet", b"PAR1", "a.parquet"),
    "a Parquet footer that lies": (
        "a.parquet",
        b"PAR1" + b"\0" * 20 + struct.pack("<I", 2**31) + b"PAR1",
        "a.parquet",
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_a_broken_file_is_refused_and_named(tmp_path: Path, what: str) -> None:
    name, content, word = FILES[what]
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_rows, lambda path: list(stream_rows(path))):
        with pytest.raises(DataError) as caught:
            read(path)
        assert word in str(caught.value)
        assert len(str(caught.value)) < 2500


VALUES = [
    True,
    7,
    1.5,
    [],
    {},
    ["a"],
    json.loads(deep(800)),
    {"a": "b" * 10**6},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("kind", ["classification", "instruction", "language_modeling"])
def test_a_column_of_another_type_is_refused_and_the_row_named(
    tmp_path: Path, kind: str, value: Any
) -> None:
    rows = [{"text": "a", "label": label, "instruction": "a", "output": "b"} for label in "bc" * 9]
    column = {"instruction": "instruction"}.get(kind, "text")
    rows[0][column] = value
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"train\.jsonl:1: column") as caught:
        for split in ("train", "validation", "test"):
            task(kind, tmp_path).examples(split)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [None, [], json.loads(deep(800)), ""])
def test_a_label_of_another_type_is_refused_and_the_row_named(tmp_path: Path, value: Any) -> None:
    rows = [{"text": "a", "label": label} for label in ("good", "bad") * 9]
    rows[4]["label"] = value
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"train\.jsonl:5: column 'label'"):
        for split in ("train", "validation", "test"):
            task("classification", tmp_path).examples(split)


@pytest.mark.parametrize("column", ["text", "label"])
def test_half_a_character_is_refused_where_it_is_used_and_nowhere_else(
    tmp_path: Path, column: str
) -> None:
    rows = [{"text": "a", "label": label, "unused": "\ud800"} for label in ("good", "bad") * 9]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert task("classification", tmp_path).examples("train")
    for row in rows:
        row[column] = f"\udfff{row[column]}"
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="half a character"):
        task("classification", tmp_path).examples("train")


@pytest.mark.parametrize("role", [None, 7, [], {}, json.loads(deep(800)), "root", "\x1b[2J"])
def test_a_message_of_nobody_is_refused(tmp_path: Path, role: Any) -> None:
    row = {"messages": [{"role": role, "content": "a"}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"train\.jsonl:1") as caught:
        task("instruction", tmp_path).prompt_of(read_rows(tmp_path / "train.jsonl")[0])
    assert str(caught.value).isprintable()


def test_what_a_message_quotes_cannot_command_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text('"\x1b[2Ja\nb","label"\nx,y\n')
    with pytest.raises(DataError) as caught:
        read_rows(path)[0].text("text")
    assert r"\x1b[2Ja b" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n\n"])
def test_line_ends_of_any_machine_end_a_row(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(ending.join(['{"text": "a\\r\\nb"}', '{"text": "c"}']).encode())
    for read in (read_rows, stream_rows):
        assert [row.text("text") for row in read(path)] == ["a\r\nb", "c"]


def test_columns_of_parquet_that_hold_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    view = arrow.array([b"\xff\xfe"]).view(arrow.string())  # bytes that are called text
    parquet.write_table(arrow.table({"text": view}), path)
    with pytest.raises(DataError, match=r"train\.parquet: not readable"):
        read_rows(path)
    far = arrow.array([2**62], arrow.timestamp("us"))
    parquet.write_table(arrow.table({"text": ["a"], "when": far}), path)
    with pytest.raises(DataError, match=r"train\.parquet: not readable"):
        read_rows(path)


@pytest.mark.parametrize("read", [read_rows, lambda path: list(stream_rows(path))])
def test_a_gzipped_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    monkeypatch.setattr(rows_module, "MAX_ROW", 2**20)
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 2**25))
    with pytest.raises(DataError, match=r"more than|longer than") as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_rows_that_repeat_themselves_are_read_from_gzip(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "the same row again"}\n' * 10_000))
    assert len(read_rows(path)) == len(list(stream_rows(path))) == 10_000


def test_a_row_of_megabytes_is_read_in_time(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "word " * 10**6}) + "\n")
    start = time.process_time()
    assert len(read_rows(path)[0].text("text")) == 5 * 10**6
    assert time.process_time() - start < 5


def test_a_file_that_vanishes_between_planning_and_reading_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": "a", "label": label} for label in ("good", "bad") * 9]
    path = tmp_path / "train.jsonl"
    for form in ("jsonl", "parquet", "csv.gz"):
        path = tmp_path / f"train.{form}"
        path.write_text("\n".join(map(json.dumps, rows)))
        source = task("classification", tmp_path).source(None)
        path.unlink()
        with pytest.raises(DataError, match=rf"train\.{form}: no such file"):
            source.splits["train"](refuse_row)
    with pytest.raises(TunewiseError, match="no such file"):
        read_split(path, "train")
    with pytest.raises(TunewiseError, match="no such file"):
        task("classification", tmp_path / "gone").examples("train")
    folder = tmp_path / "folder"
    settings = task("classification", folder)
    monkeypatch.setattr("os.path.exists", lambda path: True)  # it is there when it is looked for
    with pytest.raises(TunewiseError, match=str(folder)):
        settings.examples("train")
