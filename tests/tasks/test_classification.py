"""A table of texts and labels becomes examples; what cannot be one is named with its row."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunewise.data.rows import SPLITS, Split
from tunewise.errors import DataError
from tunewise.tasks.classification import Classification


def folder(path: Path, **splits: list[Any]) -> Path:
    """Write a split's labels, each with a text, and return the folder."""
    for split, labels in splits.items():
        lines = [{"text": f"{split} {n}", "label": label} for n, label in enumerate(labels)]
        (path / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def choices(path: Path, split: Split = "train", **settings: Any) -> tuple[str, ...]:
    return Classification(path=path, **settings).examples(split)[0].choices


def message(path: Path, split: Split = "train", **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        Classification(path=path, **settings).examples(split)
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [
        (["good", "bad", "good"], ("bad", "good")),
        ([10, 9, 2], ("2", "9", "10")),
        (["10", "9", "-2"], ("-2", "9", "10")),
        ([1, "two"], ("1", "two")),
        ([True, False], ("False", "True")),
        (["--1", "--2"], ("--1", "--2")),
        (["-", "1"], ("-", "1")),
    ],
)
def test_labels_are_those_of_the_training_rows_numbers_by_value_and_texts_by_alphabet(
    tmp_path: Path, labels: list[Any], ordered: tuple[str, ...]
) -> None:
    assert choices(folder(tmp_path, train=labels)) == ordered


def test_every_split_has_the_labels_of_training_in_the_same_order(tmp_path: Path) -> None:
    path = folder(tmp_path, train=[2, 0, 1], validation=[1], test=[0, 2])
    assert {choices(path, split) for split in SPLITS} == {("0", "1", "2")}


def test_given_labels_have_their_names_and_their_order(tmp_path: Path) -> None:
    path = folder(tmp_path, train=[0, 1])
    labels = {1: "positive", 0: "negative"}
    assert choices(path, labels=labels) == ("positive", "negative")
    examples = Classification(path=path, labels=labels).examples("train")
    assert [example.target for example in examples] == ["negative", "positive"]


def test_the_columns_can_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("stars,review,label\n5,a good film,x\n1,a bad film,x\n")
    task = Classification(path=tmp_path, text="review", label="stars")
    assert [(e.prompt, e.target) for e in task.examples("train")] == [
        ("a good film", "5"),
        ("a bad film", "1"),
    ]


def test_a_settled_task_reads_a_split_without_the_training_rows(tmp_path: Path) -> None:
    path = folder(tmp_path, train=[2, 0, 1], test=[0, 0])
    task = Classification(path=path)
    settled = task.settled(task.examples("train"))
    (tmp_path / "train.jsonl").unlink()
    assert settled.label_names == ("0", "1", "2")
    assert [example.target for example in settled.examples("test")] == ["0", "0"]


def test_one_table_is_parted_with_every_label_in_every_split(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(40)))
    task = Classification(path=path)
    prompts: list[str] = []
    for split in SPLITS:
        examples = task.examples(split)
        assert {example.target for example in examples} == {"0", "1"}
        prompts += [example.prompt for example in examples]
    assert sorted(prompts) == sorted(f"text {n}" for n in range(40))


@pytest.mark.parametrize("label", [1.5, None, "", ["good"], {"a": 1}])
def test_a_label_that_is_not_one_is_named_with_its_row(tmp_path: Path, label: Any) -> None:
    found = message(folder(tmp_path, train=["good", "bad", label]))
    assert "train.jsonl:3" in found
    assert repr(label) in found


def test_a_text_that_is_a_number_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(
        '{"text": "fine", "label": 0}\n{"text": 17, "label": 1}\n'
    )
    found = message(tmp_path)
    assert "train.jsonl:2" in found
    assert "17" in found


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_never_occurs_in_training_is_named_with_its_row(
    tmp_path: Path, split: Split
) -> None:
    path = folder(tmp_path, **{"train": ["good", "bad"], split: ["good", "goood"]})
    found = message(path, split)
    assert f"{split}.jsonl:2: label 'goood' never occurs in training" in found
    assert "did you mean 'good'" in found


def test_a_label_that_is_not_among_the_given_ones_is_named_with_its_row(tmp_path: Path) -> None:
    found = message(folder(tmp_path, train=[0, 1, 2]), labels={0: "no", 1: "yes"})
    assert "train.jsonl:3: label '2' is not one of task.labels" in found


def test_a_single_label_is_named(tmp_path: Path) -> None:
    found = message(folder(tmp_path, train=["good", "good"]))
    assert "train.jsonl:1" in found
    assert "'good'" in found


def test_a_missing_column_is_answered_with_the_columns_there_are(tmp_path: Path) -> None:
    path = folder(tmp_path, train=["good", "bad"])
    assert "train.jsonl:1: no column 'stars'; the row has: text, label" in message(
        path, label="stars"
    )
    assert "train.jsonl:1: no column 'review'" in message(path, text="review")


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    assert "no file for the validation split" in message(
        folder(tmp_path, train=[0, 1]), "validation"
    )
