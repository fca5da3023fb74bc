"""Which rows train, validate and test: each row once, labels in their shares, always the same."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tunewise.data.rows import SPLITS, Row, Split
from tunewise.data.splits import read_split, subset
from tunewise.errors import DataError


def labelled(number: int, every: int = 5) -> list[dict[str, Any]]:
    """Return rows numbered from 0, of which one in so many is rare."""
    return [
        {"text": str(n), "label": "rare" if n % every == 0 else "common"} for n in range(number)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def folder(path: Path, *splits: str, number: int = 100) -> Path:
    for split in splits:
        write(path / f"{split}.jsonl", [row | {"file": split} for row in labelled(number)])
    return path


def parts_of(path: Path, group: str | None = None, **settings: Any) -> dict[Split, list[Row]]:
    return {split: read_split(path, split, group, **settings) for split in SPLITS}


def sizes(parts: dict[Split, list[Row]]) -> list[int]:
    return [len(parts[split]) for split in SPLITS]


def texts(rows: list[Row]) -> list[str]:
    return [row.values["text"] for row in rows]


def files(rows: list[Row]) -> set[str]:
    return {row.values["file"] for row in rows}


# What the data have of their own is used as it is.


def test_a_folder_has_a_file_for_each_split(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\ntrain,good\n")
    (tmp_path / "validation.jsonl.gz").write_bytes(gzip.compress(b'{"text": "validation"}\n'))
    (tmp_path / "test.json").write_text('[{"text": "test"}]')
    for split in SPLITS:
        assert texts(read_split(tmp_path, split)) == [split]


def test_the_shards_of_a_split_are_read_one_after_another(tmp_path: Path) -> None:
    for name in ("train-00001-of-00002", "train-00000-of-00002"):
        write(tmp_path / f"{name}.jsonl", [{"text": f"{name} {line}"} for line in range(2)])
    for split in ("validation", "test"):
        write(tmp_path / f"{split}.jsonl", [{"text": split}])
    rows = read_split(tmp_path, "train")
    assert texts(rows) == [
        f"train-0000{shard}-of-00002 {line}" for shard in (0, 1) for line in (0, 1)
    ]
    assert len({row.id for row in rows}) == 4


def test_a_test_split_is_read_without_the_training_rows(tmp_path: Path) -> None:
    assert files(read_split(folder(tmp_path, "test"), "test")) == {"test"}


# Missing splits are taken from the training rows.


@pytest.mark.parametrize("group", [None, "label"])
@pytest.mark.parametrize("shards", [("all",), ("train",), ("train-1", "train-2")])
def test_training_rows_alone_are_split_and_share_no_row_and_lose_none(
    tmp_path: Path, shards: tuple[str, ...], group: str | None
) -> None:
    rows = labelled(100)
    size = len(rows) // len(shards)
    for number, shard in enumerate(shards):
        write(tmp_path / f"{shard}.jsonl", rows[number * size : (number + 1) * size])
    path = tmp_path / "all.jsonl" if shards == ("all",) else tmp_path
    parts = parts_of(path, group)
    found = [text for rows in parts.values() for text in texts(rows)]
    assert sorted(found, key=int) == [str(number) for number in range(100)]
    assert sizes(parts) == [80, 10, 10]


def test_training_rows_beside_test_rows_are_split_in_two_and_keep_the_shares_of_labels(
    tmp_path: Path,
) -> None:
    parts = parts_of(folder(tmp_path, "train", "test"), "label")
    assert sizes(parts) == [80, 20, 100]
    assert files(parts["test"]) == {"test"}
    assert files(parts["train"]) == files(parts["validation"]) == {"train"}
    assert not set(texts(parts["train"])) & set(texts(parts["validation"]))
    for split, size in (("train", 80), ("validation", 20)):
        counts = Counter(row.values["label"] for row in parts[split])
        assert counts == {"common": 0.8 * size, "rare": 0.2 * size}


def test_splitting_gives_the_same_rows_each_time_in_the_order_of_the_data(tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", labelled(100))
    for split in SPLITS:
        found = texts(read_split(path, split, "label"))
        assert found == texts(read_split(path, split, "label"))
        assert found == sorted(found, key=int)


def test_each_part_has_its_share_of_every_label(tmp_path: Path) -> None:
    parts = parts_of(write(tmp_path / "all.jsonl", labelled(100)), "label")
    for split, size in zip(SPLITS, (80, 10, 10), strict=True):
        counts = Counter(row.values["label"] for row in parts[split])
        assert counts == {"common": 0.8 * size, "rare": 0.2 * size}


def test_a_label_too_rare_to_be_split_is_learnt(tmp_path: Path) -> None:
    parts = parts_of(write(tmp_path / "all.jsonl", labelled(40, every=20)), "label")
    rare = [[row.values["label"] for row in parts[split]].count("rare") for split in SPLITS]
    assert rare == [2, 0, 0]


@pytest.mark.parametrize("number", [3, 4, 7, 11, 23])
@pytest.mark.parametrize("train_size", [None, 0.01, 0.1, 0.99])
def test_however_few_the_rows_no_part_is_empty(
    tmp_path: Path, number: int, train_size: float | None
) -> None:
    parts = parts_of(write(tmp_path / "all.jsonl", labelled(number)), train_size=train_size)
    assert min(sizes(parts)) >= 1
    assert sum(sizes(parts)) == number
    (tmp_path / "all.jsonl").rename(tmp_path / "train.jsonl")
    write(tmp_path / "test.jsonl", labelled(1))
    parts = parts_of(tmp_path, train_size=train_size)
    assert min(sizes(parts)) >= 1
    assert sum(sizes(parts)) == number + 1


# The share to train on can be said.


@pytest.mark.parametrize(("train_size", "size"), [(0.8, 80), (0.9, 90), (0.25, 25)])
@pytest.mark.parametrize("own", [("train", "test"), ("train", "validation", "test")])
def test_a_train_size_takes_validation_from_training_in_place_of_the_datas_own(
    tmp_path: Path, own: tuple[str, ...], train_size: float, size: int
) -> None:
    parts = parts_of(folder(tmp_path, *own), "label", train_size=train_size)
    assert sizes(parts) == [size, 100 - size, 100]
    assert files(parts["validation"]) == {"train"}
    assert files(parts["test"]) == {"test"}
    assert not set(texts(parts["train"])) & set(texts(parts["validation"]))


def test_a_train_size_splits_what_is_left_when_a_tenth_is_kept_for_testing(tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", labelled(200))
    parts = parts_of(path, train_size=0.5)
    assert sizes(parts) == [90, 90, 20]
    assert len({text for rows in parts.values() for text in texts(rows)}) == 200


# What cannot be split is named.


@pytest.mark.parametrize("split", SPLITS)
def test_a_folder_that_validates_but_does_not_test_is_named(tmp_path: Path, split: Split) -> None:
    folder(tmp_path, "train", "validation")
    with pytest.raises(DataError, match=r"no file for the test split \(test\.\*") as caught:
        read_split(tmp_path, split)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("own", [(), ("test",)])
def test_a_folder_without_training_rows_is_named(
    tmp_path: Path, own: tuple[str, ...], split: Split
) -> None:
    with pytest.raises(DataError, match="no file for the train split") as caught:
        read_split(folder(tmp_path, *own), split)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["all.jsonl", "train.jsonl"])
def test_too_few_rows_to_split_are_counted(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, labelled(2))
    path = tmp_path if name.startswith("train") else tmp_path / name
    with pytest.raises(DataError, match=r"too few rows \(2\) .*train, validation, test") as caught:
        read_split(path, "validation")
    assert str(tmp_path) in str(caught.value)


def test_a_row_without_the_label_to_split_by_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", [*labelled(9), {"text": "9"}])
    with pytest.raises(DataError, match=r"all\.jsonl:10: no column 'label'"):
        read_split(path, "train", "label")


# Some of the items.

ITEMS = list(range(100))
GROUPS = ["rare" if n % 10 == 0 else "some" if n % 3 == 0 else "common" for n in ITEMS]


@pytest.mark.parametrize("count", range(1, 100, 7))
@pytest.mark.parametrize("seed", range(3))
def test_a_subset_keeps_the_shares_of_the_groups_to_one_item(count: int, seed: int) -> None:
    chosen = subset(ITEMS, count, seed, GROUPS)
    assert len(chosen) == count
    found = Counter(GROUPS[n] for n in chosen)
    for group, number in Counter(GROUPS).items():
        assert abs(found[group] - number * count / len(ITEMS)) <= 1, group


@pytest.mark.parametrize("seed", range(3))
def test_a_smaller_subset_lies_within_a_larger_one_and_keeps_its_order(seed: int) -> None:
    before: set[int] = set()
    for count in (1, 2, 5, 20, 50, 99, 100, 1000):
        chosen = subset(ITEMS, count, seed, GROUPS)
        assert chosen == sorted(chosen)
        assert before <= set(chosen)
        before = set(chosen)
    assert before == set(ITEMS)


def test_a_subset_is_the_same_each_time_and_another_with_another_seed() -> None:
    assert subset(ITEMS, 30, 1, GROUPS) == subset(ITEMS, 30, 1, GROUPS)
    assert subset(ITEMS, 30, 1, GROUPS) != subset(ITEMS, 30, 2, GROUPS)
