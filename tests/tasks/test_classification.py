"""A table of texts and labels becomes examples; what cannot be one is named with its row."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny import write_splits

from tunewise.data.rows import SPLITS, Split
from tunewise.errors import DataError
from tunewise.tasks.classification import Classification


def folder(path: Path, train: list[Any], **others: list[Any]) -> Path:
    """Write each split's labels, with a text each, and return the folder.

    A split that is not named has the first label, so that training rows are not split.
    """

    def rows(split: str) -> list[dict[str, Any]]:
        labels = train if split == "train" else others.get(split, train[:1])
        return [{"text": f"{split} {n}", "label": label} for n, label in enumerate(labels)]

    return write_splits(path, rows)


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
        ([True, False], ("false", "true")),
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
    for split in SPLITS:
        path = tmp_path / f"{split}.csv"
        path.write_text("stars,review,label\n5,a good film,x\n1,a bad film,x\n")
    task = Classification(path=tmp_path, text="review", label="stars")
    assert [(e.prompt, e.target) for e in task.examples("train")] == [
        ("a good film", "5"),
        ("a bad film", "1"),
    ]


def test_a_resolved_task_reads_a_split_without_the_training_rows(tmp_path: Path) -> None:
    path = folder(tmp_path, train=[2, 0, 1], test=[0, 0])
    task = Classification(path=path)
    resolved = task.resolve(task.examples("train"))
    (tmp_path / "train.jsonl").unlink()
    assert resolved.label_names == ("0", "1", "2")
    assert [example.target for example in resolved.examples("test")] == ["0", "0"]


def test_one_table_is_split_with_every_label_in_every_split(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(40)))
    task = Classification(path=path)
    prompts: list[str] = []
    for split in SPLITS:
        examples = task.examples(split)
        assert {example.target for example in examples} == {"0", "1"}
        prompts += [example.prompt for example in examples]
    assert sorted(prompts) == sorted(f"text {n}" for n in range(40))


@pytest.mark.parametrize("label", [None, "", ["good"], {"a": 1}])
def test_a_label_that_is_not_one_is_named_with_its_row(tmp_path: Path, label: Any) -> None:
    found = message(folder(tmp_path, train=["good", "bad", label]))
    assert "train.jsonl:3" in found
    assert repr(label) in found


def test_a_text_that_is_a_number_is_named_with_its_row(tmp_path: Path) -> None:
    folder(tmp_path, [0, 1])
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
    path = folder(tmp_path, ["good", "bad"], **{split: ["good", "goood"]})
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
    (folder(tmp_path, [0, 1]) / "test.jsonl").unlink()
    assert "no file for the test split" in message(tmp_path, "test")


def test_a_file_of_a_split_that_holds_no_rows_is_named(tmp_path: Path) -> None:
    (folder(tmp_path, [0, 1]) / "validation.jsonl").write_text("")
    assert "validation.jsonl: the file holds no rows" in message(tmp_path, "validation")


def test_an_empty_text_is_an_example_like_any_other(tmp_path: Path) -> None:
    (folder(tmp_path, [0, 1]) / "test.jsonl").write_text('{"text": "", "label": 0}\n')
    (example,) = Classification(path=tmp_path).examples("test")
    assert (example.prompt, example.target) == ("", "0")


def test_columns_of_a_template_are_one_text_and_the_star_says_which_may_be_cut(
    tmp_path: Path,
) -> None:
    for split in SPLITS:
        (tmp_path / f"{split}.csv").write_text("p,h,label\nIt rains.,It is wet.,yes\na,b,no\n")
    for template, prompt, cue in (
        ("{p}\n{h}", "It rains.\nIt is wet.", ""),
        ("{p*}\n{h}", "It rains.", "\nIt is wet."),
    ):
        (example, _) = Classification(path=tmp_path, template=template).examples("test")
        assert (example.prompt, example.cue) == (prompt, cue)


def test_text_is_read_in_lower_case_and_without_punctuation_if_asked(tmp_path: Path) -> None:
    (folder(tmp_path, [0, 1]) / "test.jsonl").write_text(
        '{"text": "Ünder \\"Way\\", isn\'t it?", "label": 0}\n'
    )
    for settings, text in (
        ({}, 'Ünder "Way", isn\'t it?'),
        ({"lowercase": True}, 'ünder "way", isn\'t it?'),
        ({"lowercase": True, "punctuation": False}, "ünder way isnt it"),
    ):
        (example,) = Classification(path=tmp_path, **settings).examples("test")
        assert example.prompt == text


@pytest.mark.parametrize("samples", [6, {"train": 6, "test": 6}])
def test_samples_keep_the_shares_of_the_labels_and_know_the_labels_of_all(
    tmp_path: Path, samples: Any
) -> None:
    labels = ["rare", *["often"] * 20, *["seldom"] * 10]
    task = Classification(path=folder(tmp_path, labels, test=labels), samples=samples)
    for split in ("train", "test"):
        examples = task.examples(split)
        counts = Counter(example.target for example in examples)
        assert counts["often"] == 4
        assert counts["seldom"] == 2
        assert examples[0].choices == ("often", "rare", "seldom")
    assert len(task.examples("validation")) == 1


def test_samples_are_the_same_in_every_run_and_others_with_another_seed(tmp_path: Path) -> None:
    path = folder(tmp_path, [0, 1] * 50)
    task = Classification(path=path, samples=10)
    assert task.examples("train") == task.examples("train")
    more = Classification(path=path, samples=20).examples("train")
    assert {e.id for e in task.examples("train")} < {e.id for e in more}
    other = Classification(path=path, samples=10, sample_seed=1)
    assert other.examples("train") != task.examples("train")
