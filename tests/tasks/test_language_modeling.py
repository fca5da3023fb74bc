"""Texts to be learnt whole."""

from pathlib import Path

import pytest

from tunewise.errors import DataError
from tunewise.tasks.language_modeling import LanguageModeling


def test_a_folder_of_books_has_an_example_per_book(tmp_path: Path) -> None:
    for name in ("train_one", "train_two", "test_three", "validation_four"):
        (tmp_path / f"{name}.txt").write_text(f"The text of {name}.\n\nIts end.\n")
    examples = LanguageModeling(path=tmp_path).examples("train")
    assert [example.target for example in examples] == [
        "The text of train_one.\n\nIts end.\n",
        "The text of train_two.\n\nIts end.\n",
    ]
    assert len({example.id for example in examples}) == 2
    assert not any(example.prompt or example.choices for example in examples)


def test_the_column_with_the_text_can_have_any_name(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"poem": "one"}\n{"poem": "two"}\n')
    examples = LanguageModeling(path=tmp_path, text="poem").examples("train")
    assert [example.target for example in examples] == ["one", "two"]
    with pytest.raises(DataError, match=r"train\.jsonl:1: no column 'text'.*poem"):
        LanguageModeling(path=tmp_path).examples("train")


def test_one_book_is_too_little_for_three_splits(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("The only text.")
    with pytest.raises(DataError, match="too few"):
        LanguageModeling(path=tmp_path / "book.txt").examples("validation")
