"""One text to learn from is cut by length, where something ends; no character is lost."""

import json
import logging
from pathlib import Path

import pytest

from tunewise.data.rows import SPLITS, Row, Split
from tunewise.data.splits import read_split
from tunewise.errors import DataError

HELD_OUT: dict[Split, float] = {"validation": 0.1, "test": 0.1}
SENTENCE = "The rain did not stop that day. "
TEXTS = {
    "paragraphs": f"{SENTENCE * 5}\n{SENTENCE}\n\n" * 40,
    "indented paragraphs": f"{SENTENCE}\n \n  " * 40,
    "lines": f"{SENTENCE}\n" * 40,
    "Windows lines": f"{SENTENCE}\r\n" * 40,
    "one line": SENTENCE * 60,
    "a long paragraph, then short ones": SENTENCE * 60 + "\n\nThe end.\n\nAnd more.",
}


def parts_of(path: Path) -> dict[Split, list[Row]]:
    return {split: read_split(path, split) for split in SPLITS}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("is_folder", [False, True])
def test_one_text_file_is_cut_by_length_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, is_folder: bool
) -> None:
    caplog.set_level(logging.INFO)
    path, text = tmp_path / "train.txt", TEXTS[name]
    path.write_bytes(text.encode())
    parts = parts_of(tmp_path if is_folder else path)
    assert "".join(row.text("text") for split in SPLITS for row in parts[split]) == text
    for split, share in (("train", 0.8), *HELD_OUT.items()):
        (row,) = parts[split]
        assert abs(len(row.text("text")) / len(text) - share) <= share / 2
        line = int(row.id.rpartition(":")[2])
        assert row.text("text") in "".join(text.splitlines(keepends=True)[line - 1 :])
        assert row.text("text").rstrip().endswith(".")
    assert parts == parts_of(tmp_path if is_folder else path)
    assert sum("cut between" in record.getMessage() for record in caplog.records) == 1


def test_a_text_beside_a_test_text_gives_its_end_for_validation(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TEXTS["lines"])
    (tmp_path / "test.txt").write_text("Another text.")
    parts = parts_of(tmp_path)
    assert parts["train"][0].text("text") + parts["validation"][0].text("text") == TEXTS["lines"]
    assert [row.text("text") for row in parts["test"]] == ["Another text."]


def test_two_texts_are_each_cut_and_three_are_split_whole(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c"), start=1):
        (tmp_path / f"train_{name}.txt").write_text(f"{name} {TEXTS['lines']}")
        parts = parts_of(tmp_path)
        is_cut = number < 3
        assert [len(parts[split]) for split in SPLITS] == [number if is_cut else 1] * 3


@pytest.mark.parametrize("text", ["word " * 1000, "The only text.", "First.\n\nSecond.\n\nThird."])
def test_a_text_without_places_to_cut_it_at_is_refused_with_what_to_do(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "book.txt"
    path.write_text(text)
    with pytest.raises(
        DataError, match=r"book\.txt:1: too few lines .* give more text, or a folder"
    ):
        read_split(path, "train")


def test_one_row_of_another_kind_of_file_is_too_few_and_told_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    path.write_text(json.dumps({"text": TEXTS["lines"]}))
    with pytest.raises(DataError, match=r"too few rows \(1\) .* give more rows, or a folder"):
        read_split(path, "train")
