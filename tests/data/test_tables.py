"""Tables are read in the dialect they are written in, and no row is swallowed."""

import csv
import io
import logging
from pathlib import Path
from typing import Literal

import pytest

from tunewise.data.rows import read_rows
from tunewise.errors import DataError

LABELLED = "a good film;pos\na bad one;neg\n" * 4
"""Eight rows, to be written with another delimiter."""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path) -> list[list[str]]:
    return [list(row.values.values()) for row in read_rows(path)]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(path)
    return str(caught.value).removeprefix(f"{path.parent}/")


# Delimiters.


DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@pytest.mark.parametrize(("name", "usual"), [("a.csv", ","), ("a.tsv", "\t")])
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_a_table_with_another_delimiter_is_read_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, usual: str, delimiter: str
) -> None:
    caplog.set_level(logging.INFO)
    content = f'text;label\n{LABELLED}"so; really";pos\n'.replace(";", delimiter)
    rows = rows_of(write(tmp_path / name, content))
    assert rows[:2] == [["a good film", "pos"], ["a bad one", "neg"]]
    assert rows[8:] == [[f"so{delimiter} really", "pos"]]
    said = f"fields are separated by {DELIMITERS[delimiter]}"
    assert (said in caplog.text) == (delimiter != usual)


KEPT = {
    "semicolons in texts": ("text,label\na; b,pos\nc; d,neg\n", [["a; b", "pos"], ["c; d", "neg"]]),
    "semicolons in names too": ("a;b,label\na;b,pos\n", [["a;b", "pos"]]),
    "one column": ("text\na\nb; c\n", [["a"], ["b; c"]]),
    "one quoted name": ('"a;b"\nc\n', [["c"]]),
    "decimal commas": ("text;score\na;3,5\nb;4,5\n", [["a", "3,5"], ["b", "4,5"]]),
    "a comma in a name": ("text;label, 0 or 1\na;1\nb;0\n", [["a", "1"], ["b", "0"]]),
    "sep=": ("sep=;\ntext;label\na;b\n", [["a", "b"]]),
    "sep= of one's own": ('"sep=#"\r\ntext#label\r\na,b#c;d\r\n', [["a,b", "c;d"]]),
    "sep= against the header": ("sep=;\na,b;c\nd,e;f\n", [["d,e", "f"]]),
    "texts of which the first has a bar": ("a | b\nc\nd\n", [["c"], ["d"]]),
    "lines before the header": ("\n\ntext,label\na,b\n", [["a", "b"]]),
    "marks in front": ("\ufeff\ufefftext,label\na,b\n", [["a", "b"]]),
    "a mark in front of quotes": ('\ufeff"text","label"\na,b\n', [["a", "b"]]),
}


@pytest.mark.parametrize("what", KEPT)
def test_the_delimiter_is_the_one_that_the_rows_fit(tmp_path: Path, what: str) -> None:
    content, rows = KEPT[what]
    assert rows_of(write(tmp_path / "a.csv", content)) == rows


def test_a_delimiter_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a;b|c\nd;e|f\n")
    assert "separated by semicolons or vertical bars? Say so in a first line: sep=;" in refusal(
        path
    )
    write(path, "sep=|\na;b|c\nd;e|f\n")
    assert rows_of(path) == [["d;e", "f"]]


def test_a_broken_row_does_not_change_the_dialect_and_is_found_on_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"text;label\n{LABELLED}a;b;c\n")
    assert refusal(path).startswith("a.csv:10: 3 fields; the header has 2 (text, label); a text")
    errors: list[DataError] = []
    assert len(read_rows(path, errors.append)) == 8
    assert len(errors) == 1


# Quotes.

TEXTS = ["warm and rich", "cold and thin", "cheerful", "dull", "lovely", "smoke", "fast", "nobody"]


def table_of(delimiter: str, **texts: str) -> str:
    """Return a table of eight texts, of which some, by their numbers, are others."""
    rows = [texts.get(f"row{n}", text) for n, text in enumerate(TEXTS)]
    lines = [f"{text}{delimiter}{'pos' if n % 2 else 'neg'}" for n, text in enumerate(rows)]
    return "\n".join([delimiter.join(["text", "label"]), *lines, ""])


PLAIN = [
    {"row1": 'She said "no" twice'},
    {"row1": '"No" she said'},
    {"row1": '"never closed'},
    {"row1": '"opened here', "row5": 'closed there"'},
    {"row1": '"opened here', "row2": 'closed on the next line"'},
    {"row1": '"quoted"', "row3": 'and 5" wide'},
    {"row1": '"', "row2": '""', "row4": '"""'},
    {"row1": '"a" and "b"'},
    {"row0": 'ends "so"', "row7": '"so'},
]


@pytest.mark.parametrize("texts", PLAIN)
def test_a_tsv_whose_quotes_are_no_quotation_has_a_row_on_every_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, texts: dict[str, str]
) -> None:
    caplog.set_level(logging.INFO)
    found = rows_of(write(tmp_path / "a.tsv", table_of("\t", **texts)))
    assert [text for text, _ in found] == [texts.get(f"row{n}", t) for n, t in enumerate(TEXTS)]
    assert [label for _, label in found] == ["neg", "pos"] * 4
    assert "quotes are characters like any other" in caplog.text


def test_a_tsv_of_a_spreadsheet_has_quotes_around_texts_with_quotes(tmp_path: Path) -> None:
    texts = {"row1": '"She said ""no"""', "row2": '"two\nlines"', "row3": '"a\ttab"'}
    found = rows_of(write(tmp_path / "a.tsv", table_of("\t", **texts)))
    assert [text for text, _ in found][1:4] == ['She said "no"', "two\nlines", "a\ttab"]
    assert len(found) == 8


ESCAPED = {
    r'"The \"best\" day"': 'The "best" day',
    r'"ends with \"quotes\""': 'ends with "quotes"',
    r'"\"No\", she said"': '"No", she said',
    r'"C:\\dir\\"': "C:\\dir\\",
    r'"a \n stays, \"so\""': r'a \n stays, "so"',
    r"The \"best\" day": 'The "best" day',
}


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("text", ESCAPED)
def test_quotes_behind_backslashes_are_read_as_quotes(
    tmp_path: Path, text: str, delimiter: str
) -> None:
    content = table_of(delimiter, row1=text, row5=r'"an \"other\" one"')
    found = rows_of(write(tmp_path / "a.csv", content))
    assert [text for text, _ in found][1:6:4] == [ESCAPED[text], 'an "other" one']
    assert len(found) == 8


def test_a_backslash_at_the_end_of_a_quoted_text_is_a_backslash(tmp_path: Path) -> None:
    content = table_of(",", row1='"C:\\dir, or D:\\"', row3='"so ""it"" is"')
    found = rows_of(write(tmp_path / "a.csv", content))
    assert [found[1][0], found[3][0]] == ["C:\\dir, or D:\\", 'so "it" is']


SWALLOWED = [
    {"row1": '"opened here', "row5": 'closed there"'},
    {"row1": '"opened here', "row2": 'closed there"'},
    {"row1": '"opened here', "row2": 'doubled "" inside', "row5": 'closed there"'},
    {"row0": '"a, b"', "row1": '"opened here', "row6": 'closed there"'},
]


@pytest.mark.parametrize("texts", SWALLOWED)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_csv_whose_open_quote_takes_in_rows_is_refused_with_both_lines(
    tmp_path: Path, texts: dict[str, str], delimiter: str
) -> None:
    found = refusal(write(tmp_path / "a.csv", table_of(delimiter, **texts)))
    last = max(int(row[3:]) for row in texts) + 2
    assert found.startswith(f"a.csv:3: the quote that opens here is closed on line {last}, and")


def test_rows_are_not_swallowed_where_no_value_occurs_twice(tmp_path: Path) -> None:
    lines = ["id,prompt,completion", '1,"one,two', "2,three,four", '3,five",six', "4,seven,eight"]
    found = refusal(write(tmp_path / "a.csv", "\n".join(lines)))
    assert found.startswith("a.csv:2: the quote that opens here is closed on line 4")


TEXTS_OF_LINES = [
    "Dear Sir, hello\nyours, me",
    "Hello, pos\nand good bye",
    "one\ntwo, three, four\nfive",
    "a poem, so\nwith lines, so\nand another, so\nends",
    "a\n\nb",
    "The table:\na,b\n1,2",
    "good,\nbad,\nugly, all",
    "code\nf(a,b)\nend",
]


@pytest.mark.parametrize("text", TEXTS_OF_LINES)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_text_of_several_lines_is_no_swallowed_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, quoting: Literal[0, 1]
) -> None:
    caplog.set_level(logging.INFO)
    buffer = io.StringIO(newline="")
    rows = [*([text, label] for text in TEXTS for label in ("pos", "neg")), [text, "pos"]]
    csv.writer(buffer, quoting=quoting).writerows([["text", "label"], *rows])
    assert rows_of(write(tmp_path / "a.csv", buffer.getvalue())) == rows
    assert "quoted texts of several lines: 1 (the first on lines 18 to" in caplog.text


BROKEN = {
    '"never closed,pos\nanother,neg\n': "a.csv:2: the quote that opens here is never closed",
    '"a "word" here",pos\n': "a.csv:2: the quote that opens a field here is closed on line 2, "
    "with 'word\" here\",pos' behind it; a quote inside a quoted text is written twice",
    '"open,pos\n"shut, here",neg\n': "a.csv:2: the quote that opens a field here is closed on "
    "line 3, with 'shut, here\",neg' behind it",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_quotation_that_does_not_fit_is_named_where_it_opens(
    tmp_path: Path, content: str
) -> None:
    assert refusal(write(tmp_path / "a.csv", f"text,label\n{content}")).startswith(BROKEN[content])


@pytest.mark.parametrize("content", ['a, "b, c"\n', 'a ,"b, c" \n', '"a", "b, c"\n'])
def test_spaces_around_quotes_are_not_part_of_the_text(tmp_path: Path, content: str) -> None:
    ((first, second),) = rows_of(write(tmp_path / "a.csv", f"text, label\n{content}"))
    assert (first.strip(), second) == ("a", "b, c")


# Headers, and files put together.

HEADERS = {
    "1,a\n2,b\n": ": if the first is the row's number, as R writes it, begin it with ','",
    "a,\nb,\n": ", and the last is empty: write ',' at its end too",
    "a,b\nc,d\n": ": remove lines above the header, or put quotes around texts with ','",
}


@pytest.mark.parametrize("rows", HEADERS)
def test_a_header_that_lacks_a_field_is_told_from_texts_with_delimiters(
    tmp_path: Path, rows: str
) -> None:
    found = refusal(write(tmp_path / "a.csv", f"text\n{rows}"))
    assert found == f"a.csv:1: each row has 2 fields, but the header 1 (text){HEADERS[rows]}"


def test_a_line_above_the_header_is_thought_of_where_rows_do_not_fit(tmp_path: Path) -> None:
    found = refusal(write(tmp_path / "a.csv", "# by me\n# by you\na,b\n1,2\n"))
    assert found.endswith("needs quotes around it, and lines above the header have to go")


def test_a_line_of_spaces_is_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\n  \na,b\n\t\n")
    assert rows_of(path) == [["a", "b"]]


def test_two_numbers_in_the_first_line_are_taken_for_a_row(tmp_path: Path) -> None:
    found = refusal(write(tmp_path / "a.csv", "4,0,0,a\n0,1,1,b\n"))
    assert found.endswith(
        "column '0' is there twice; rename or remove one; if the line is a row, "
        "put a header above it"
    )


FIRST_LINES = {
    "a~b\n1~2\n": "if '~' separates its fields, write a line above it: sep=~",
    "# by me\n# by you\na\n1\n": "the first line names: # by me; if it is no header, put one "
    "there, or remove what is above it",
    "A,c\n1,2\n": "did you mean 'A'? the first line names: A, c",
}


@pytest.mark.parametrize("content", FIRST_LINES)
def test_a_first_line_that_does_not_name_the_column_is_told_with_what_to_do(
    tmp_path: Path, content: str
) -> None:
    row, *_ = read_rows(write(tmp_path / "a.csv", content))
    with pytest.raises(DataError) as caught:
        row.text("a")
    assert str(caught.value).endswith(FIRST_LINES[content])


TOGETHER = {
    "text,label\na,b\n": "a.csv:3: the header again; were two files put together?",
    "label,text\nb,a\n": "a.csv:3: the header again",
    '"text","label"\na,b\n': "a.csv:3: the header again",
    " text, label\na,b\n": "a.csv:3: the header again",
    "\ufefftext,label\na,b\n": "a.csv:3: a byte-order mark begins the row",
    '\ufeff"text","label"\na,b\n': "a.csv:3: a byte-order mark begins the row",
}


@pytest.mark.parametrize("second", TOGETHER)
def test_a_second_file_behind_the_first_is_noticed_and_its_rows_can_be_used(
    tmp_path: Path, second: str
) -> None:
    path = write(tmp_path / "a.csv", f"text,label\na,b\n{second}")
    assert refusal(path).startswith(TOGETHER[second])
    errors: list[DataError] = []
    assert len(read_rows(path, errors.append)) == 2
    assert len(errors) == 1


def test_without_a_header_the_message_says_what_the_first_line_was(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path / "a.csv", '"warm, and rich",pos\nthin,neg\n'))
    with pytest.raises(
        DataError, match=r"the first line names: warm, and rich, pos; if it is no header"
    ):
        row.text("text")


def test_a_row_is_found_on_the_line_where_it_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\r\n"two\r\nlines","a"\r\n\r\n"b\n\nc",d\r\ne,f')
    assert [row.id for row in read_rows(path)] == ["a.csv:2", "a.csv:5", "a.csv:8"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl"])
def test_utf16_is_called_by_its_name_with_what_to_do(
    tmp_path: Path, name: str, encoding: str
) -> None:
    found = refusal(write(tmp_path / name, "text\tlabel\na\tb\n".encode(encoding)))
    assert "not UTF-8 but UTF-16" in found
    assert "save it as 'CSV UTF-8', or convert it: iconv" in found
