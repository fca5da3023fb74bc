"""Laws of files of rows: what was written is what is read, in every format."""

import csv
import gzip
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_formats import Rows, parquet_of, table

from tunewise.data.rows import Row, Split, read_rows, stream_rows
from tunewise.data.text_parts import text_parts
from tunewise.errors import DataError


def json_lines(rows: Rows, ascii_only: bool, ending: str) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=ascii_only) + ending for row in rows).encode()


WRITERS: dict[str, Callable[[Rows], bytes]] = {
    "a.jsonl": lambda rows: json_lines(rows, True, "\n"),
    "b.jsonl": lambda rows: json_lines(rows, False, "\r\n\r\n"),
    "a.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "a.csv": lambda rows: table(rows, ",", csv.QUOTE_ALL),
    "b.csv": lambda rows: b"\xef\xbb\xbf" + table(rows, ";", csv.QUOTE_ALL),
    "c.csv": lambda rows: b"sep=|\r\n" + table(rows, "|", csv.QUOTE_ALL),
    "a.tsv": lambda rows: table(rows, "\t", csv.QUOTE_ALL),
    "a.parquet": parquet_of,
}
HARD = st.text(st.sampled_from(' ab"\n\r\t,;|\\\u2028é🎬0'), max_size=8)
TEXT = HARD | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
# No spaces are around these names, which would be taken off.
COLUMNS = st.lists(TEXT.map(lambda name: f"a{name}:"), min_size=1, max_size=4, unique=True)
ROWS = COLUMNS.flatmap(
    lambda names: st.lists(
        st.fixed_dictionaries(dict.fromkeys(names, st.none() | TEXT)), min_size=1, max_size=5
    )
)


@settings(max_examples=50)  # each is written to fifteen files
@given(ROWS)
def test_the_same_rows_are_read_from_every_format(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows
) -> None:
    expected = [{name: value or "" for name, value in row.items()} for row in rows]
    for name, content_of in WRITERS.items():
        path, content = tmp_path_factory.getbasetemp() / name, content_of(rows)
        path.write_bytes(content)
        packed = path.with_name(f"{name}.gz")
        packed.write_bytes(gzip.compress(content, 1))
        readings = [read_rows(path), list(stream_rows(path))]
        if name != "a.parquet":
            readings.append(read_rows(packed))
        for found in readings:
            assert [{c: row.text(c) for c in row.values} for row in found] == expected, name
            assert len({row.id for row in found}) == len(rows)


FIELD = st.text(st.sampled_from("ab \",;|\t\\\n'é"), max_size=6)
LABELLED = st.fixed_dictionaries({"text": FIELD, "label": st.sampled_from(["pos", "neg"])})


@given(
    st.lists(LABELLED, min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_with_quotes_where_they_are_needed_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, delimiter: str, ending: str
) -> None:
    for row in rows:
        if "\n" in (text := row["text"] or ""):  # lines with delimiters may be rows
            row["text"] = text.replace(delimiter, " ")
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(table(rows, delimiter, csv.QUOTE_MINIMAL, ending))
    assert [row.values for row in read_rows(path)] == rows


RAW = st.text(st.sampled_from('ab ",;\\é'), min_size=1, max_size=6).filter(str.strip)


@given(st.lists(st.tuples(RAW, st.sampled_from(["pos", "neg"])), min_size=1, max_size=6))
def test_no_line_of_a_tsv_without_quoting_is_lost(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "raw.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    found = read_rows(path)
    assert [row.values["label"] for row in found] == [label for _, label in rows]
    for row, (text, _) in zip(found, rows, strict=True):
        # Quotes around a whole text may be a spreadsheet's.
        without = [t.replace('"', "").replace("\\", "").strip() for t in (row.text("text"), text)]
        assert without[0] == without[1]


@given(st.text(st.sampled_from("ab.\n \r"), max_size=200).filter(str.strip))
def test_a_text_is_cut_into_parts_without_loss_or_refused(text: str) -> None:
    shares: dict[Split, float] = {"validation": 0.1, "test": 0.1}
    try:
        parts = text_parts(Row({"text": text}, "a.txt:1"), shares)
    except DataError as error:
        assert "a.txt:1: too few lines or sentences" in str(error)
        return
    assert "".join(part.text("text") for part in parts.values()) == text
    assert all(part.text("text").strip() for part in parts.values())
