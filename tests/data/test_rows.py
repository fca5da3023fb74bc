"""Rows are read as they stand, from any of the known files, and a broken one is named."""

import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from tunewise.data.rows import SUFFIXES, Row, read_rows
from tunewise.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"text": 'He said "no, never".', "label": "bad"},
    {"text": "naïve 🎬, two\nlines and a\ttab", "label": "good"},
    {"text": "", "label": "good"},
    {"text": " spaces around \u2028 and a line separator ", "label": "bad"},
]


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        parquet.write_table(arrow.Table.from_pylist(rows), path)
        return path
    if name.endswith(".jsonl"):
        return write(path, json_lines(rows))
    if name.endswith(".json"):
        return write(path, json.dumps(rows, indent=1))
    return write(path, table(rows, "\t" if name.endswith(".tsv") else ","))


def values(rows: list[Row]) -> list[dict[str, Any]]:
    return [row.values for row in rows]


def message(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.json.gz", "A.JSONL"],
)
def test_every_kind_of_file_holds_the_same_rows(tmp_path: Path, name: str) -> None:
    assert values(read_rows(write_rows(tmp_path / name, ROWS))) == ROWS


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_text_file_is_one_text(tmp_path: Path, name: str) -> None:
    text = "Chapter one.\n\nIt was dark. \n"
    assert values(read_rows(write(tmp_path / name, text))) == [{"text": text}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert values(read_rows(path)) == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_windows_line_ends_are_no_part_of_a_value(tmp_path: Path, name: str) -> None:
    rows = [{"text": "one", "label": "bad"}, {"text": "two", "label": "good"}]
    content = (json_lines(rows) if name == "a.jsonl" else table(rows)).replace("\r\n", "\n")
    assert values(read_rows(write(tmp_path / name, content.replace("\n", "\r\n")))) == rows


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_blank_lines_are_passed_over_and_still_counted(tmp_path: Path, name: str) -> None:
    lines = {
        "a.jsonl": ['{"text": "one"}', "", "  ", '{"text": "two"}', ""],
        "a.csv": ["text", "one", "", "two", "", ""],
    }[name]
    rows = read_rows(write(tmp_path / name, "\n".join(lines)))
    assert values(rows) == [{"text": "one"}, {"text": "two"}]
    assert rows[1].id == f"{name}:4"


def test_every_row_of_a_file_has_an_id_of_its_own_that_names_its_line(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json"):  # in a list, a row's line is its place
        rows = read_rows(write_rows(tmp_path / name, ROWS))
        assert [row.id for row in rows] == [f"{name}:{line}" for line in range(1, 5)]
    for name in ("a.csv", "a.parquet"):
        rows = read_rows(write_rows(tmp_path / name, ROWS))
        assert len({row.id for row in rows}) == len(ROWS)


def test_a_row_may_be_a_megabyte_long(tmp_path: Path) -> None:
    rows = [{"text": "word " * 200_000, "label": "good"}]
    for name in ("a.jsonl", "a.csv", "a.tsv"):
        assert values(read_rows(write_rows(tmp_path / name, rows))) == rows, name


# What is wrong is said with the file, and the line where there is one.


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, suffix: str) -> None:
    message(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz", "a.parquet"]
)
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    message(write(tmp_path / name, ""))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "\n \n"),
        ("a.json", " []\n"),
        ("a.csv", "text,label\n"),
        ("a.tsv", "text\tlabel"),
        ("a.txt", " \n"),
    ],
)
def test_a_file_without_rows_is_said_to_hold_none(tmp_path: Path, name: str, content: str) -> None:
    assert "no rows" in message(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.jsonl.gz"])
def test_bytes_that_are_not_utf8_are_found_on_their_line(tmp_path: Path, name: str) -> None:
    content = b'{"text": "one"}\n{"text": "na\xefve"}\n'
    assert ":2: not UTF-8" in message(write(tmp_path / name, content))


def test_utf16_is_said_not_to_be_utf8(tmp_path: Path) -> None:
    assert "not UTF-8" in message(write(tmp_path / "a.csv", table(ROWS).encode("utf-16")))


@pytest.mark.parametrize(
    "line", ['{"text": "two"', "{'text': 'two'}", "two", '{"text": "tw', "[" * 100_000]
)
def test_broken_json_is_found_on_its_line(tmp_path: Path, line: str) -> None:
    content = f'{{"text": "one"}}\n\n{line}\n{{"text": "four"}}\n'
    assert "a.jsonl:3: not valid JSON" in message(write(tmp_path / "a.jsonl", content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[\n{"text": "one"}\n]', "is the file one JSON value on many lines? A list of objects is"),
        ('{\n "text": "one"\n}', "is the file one JSON value on many lines?"),
        ('[{"text": "one"}]', "; a file that holds a list of objects is named .json"),
        ('{"text": "one"},\n{"text": "two"}', "; remove the comma at its end"),
        ('{"text": "one",}', "; remove the comma before it"),
        ("{'text': 'one'}", "; JSON has double quotes"),
    ],
)
def test_what_is_nearly_json_lines_is_told_with_what_to_do(
    tmp_path: Path, content: str, said: str
) -> None:
    assert said in message(write(tmp_path / "a.jsonl", content))


@pytest.mark.parametrize("line", ['["text"]', '"text"', "3", "null", "true"])
def test_a_row_that_is_not_an_object_is_found_on_its_line(tmp_path: Path, line: str) -> None:
    found = message(write(tmp_path / "a.jsonl", f'{{"text": "one"}}\n{line}\n'))
    assert "a.jsonl:2:" in found
    assert "object" in found


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('[{"text": "one"},\n {"text": "two"]', r"a\.json: not valid JSON: .*line 2"),
        ('{"text": "one"}\n{"text": "two"}\n', r"a\.json: not valid JSON: .*line 2"),
        ('{"text": "one"}\n{"text": "two"}\n', "put the values in one list, or name JSON lines "),
        ('[{"text": "one"},\n]', "; remove the comma before it"),
        ('{"text": "one"}', r"a\.json: holds an object; a list of objects is needed$"),
        ('{"v": 1, "data": [{"text": "one"}]}', "; there is one in 'data': write it to a file of"),
        ('{"text": ["one"], "label": ["a"]}', "; it holds a list for each column: pandas"),
        ('{"0": {"text": "one"}}', "; it holds objects by their keys: leave the keys out"),
        ('[{"text": "one"}, ["two"]]', r"a\.json:2: the row is .* not a JSON object"),
    ],
)
def test_a_list_that_is_none_is_named_with_the_place_where_it_breaks(
    tmp_path: Path, content: str, named: str
) -> None:
    assert re.search(named, message(write(tmp_path / "a.json", content)))


@pytest.mark.parametrize("line", ["two", "two,bad,more", "two,bad,"])
def test_a_table_row_with_another_number_of_fields_is_found_on_its_line(
    tmp_path: Path, line: str
) -> None:
    found = message(write(tmp_path / "a.csv", f"text,label\none,good\n{line}\n"))
    assert "a.csv:3:" in found
    assert "the header has 2" in found


@pytest.mark.parametrize("line", ['"never closed,bad', '"closed" too early,bad'])
def test_a_broken_quotation_in_a_table_is_named(tmp_path: Path, line: str) -> None:
    assert "a.csv:2:" in message(write(tmp_path / "a.csv", f"text,label\n{line}\n"))


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.gz"])
def test_an_unknown_kind_of_file_is_answered_with_the_known_ones(tmp_path: Path, name: str) -> None:
    found = message(write(tmp_path / name, "{}"))
    assert all(suffix in found for suffix in SUFFIXES)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"these are not the bytes you look for")
    message(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz"])
def test_a_file_that_ends_too_early_is_named(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name, ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    message(path)


def test_a_gzip_file_with_flipped_bits_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl.gz", ROWS * 50)
    content = bytearray(path.read_bytes())
    for place in range(12, len(content) - 8):
        content[place] ^= 0xFF
    path.write_bytes(content)
    message(path)


def test_a_missing_column_is_answered_with_the_columns_there_are() -> None:
    row = Row({"review": "a good film", "stars": 4}, "reviews.jsonl:7")
    with pytest.raises(DataError, match=r"reviews\.jsonl:7: no column 'text'.*review, stars"):
        row.text("text")


@pytest.mark.parametrize("value", [3, 1.5, True, ["a"], {"a": 1}])
def test_a_text_that_is_not_text_is_named_with_what_it_is(value: Any) -> None:
    row = Row({"text": value}, "reviews.jsonl:7")
    with pytest.raises(DataError, match=rf"reviews\.jsonl:7: .*{re.escape(repr(value))}"):
        row.text("text")


def test_half_a_surrogate_pair_which_no_tokenizer_can_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "fine"}\n{"text": "half an emoji: \\ud83c"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        [row.text("text") for row in read_rows(path)]
