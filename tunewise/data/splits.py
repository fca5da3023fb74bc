"""Which rows train, validate and test: as the data say, or parted here, the same each time.

No choice here depends on the seed of a run: runs that are to be compared see the same rows.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tunewise.data.rows import SUFFIXES, Row, Split, read_rows, split_files
from tunewise.errors import DataError

Item = TypeVar("Item")

Source = Mapping[Split, Callable[[], list[Row]]]
"""The splits that a data set has of its own, each read when asked for."""

HELD_OUT = 0.1
"""The share of rows without any split that is kept for validation, and again for testing."""
TRAIN_SIZE = 0.8
"""The share of training rows that is trained on where there are none for validation."""


def local_source(path: Path) -> Source:
    """Return the splits of a folder; a single file is all training rows.

    Args:
        path: a folder with files named for the splits (`train.jsonl`, `test_Hardy.txt.gz`,
            `train-00000-of-00002.parquet`), or one file.

    Raises:
        DataError: if a folder has a file twice.
    """
    if not path.is_dir():
        return {"train": lambda: read_rows(path)}
    return {split: _reader(files) for split, files in split_files(path).items()}


def read_split(
    path: Path, split: Split, group: str | None = None, train_size: float | None = None
) -> list[Row]:
    """Return the rows of one split of a folder or file; see `rows_of` and `local_source`."""
    return rows_of(local_source(path), split, str(path), group, train_size)


def rows_of(
    source: Source,
    split: Split,
    where: str,
    group: str | None = None,
    train_size: float | None = None,
) -> list[Row]:
    """Return the rows of one split: always the same rows, in the order of the data.

    Of data with training rows only, 10 % are for validation and 10 % for testing. Of data that lack
    validation rows only, 20 % of the training rows are for validation.

    Args:
        where: what the rows came from, for an error.
        group: the column whose values shall have the same shares in every part.
        train_size: the share of the training rows to train on; the others validate, in place of
            the data's own validation rows.

    Raises:
        DataError: if there are too few rows to part, or a split is missing.
    """
    if "test" not in source and "validation" in source:
        raise _missing(where, "test")
    own = {name for name in source if name != "validation" or train_size is None}
    if split != "train" and split in own:
        return source[split]()
    if "train" not in source:
        raise _missing(where, "train")
    rows = source["train"]()
    if "test" not in own:
        validation = HELD_OUT if train_size is None else (1 - HELD_OUT) * (1 - train_size)
        return part(rows, split, {"validation": validation, "test": HELD_OUT}, where, group)
    if "validation" not in own:
        return part(rows, split, {"validation": 1 - (train_size or TRAIN_SIZE)}, where, group)
    return rows


def part(
    rows: list[Row],
    split: Split,
    shares: Mapping[Split, float],
    where: str,
    group: str | None = None,
) -> list[Row]:
    """Return the rows of a split, where shares of them are held out of training."""
    chosen: list[int] = []
    largest = 0
    for members in _members([_group_of(row, group) for row in rows]):
        largest = max(largest, len(members))
        # A group too small to be parted is for training, or its label would never be learnt.
        held_out = shares if len(members) > len(shares) else {}
        start = 0
        for number, (name, share) in enumerate(held_out.items()):
            most = len(members) - start - (len(shares) - number)  # one is left for each part after
            count = min(max(1, round(share * len(members))), most)
            if name == split:
                chosen += members[start : start + count]
            start += count
        if split == "train":
            chosen += members[start:]
    if largest <= len(shares):
        names = ", ".join(["train", *shares])
        raise DataError(f"{where}: too few rows ({len(rows)}) to part into {names}")
    return [rows[index] for index in sorted(chosen)]


def subset(items: Sequence[Item], count: int, seed: int, groups: Sequence[str]) -> list[Item]:
    """Return some of the items, in their order: all of them if there are no more.

    A smaller subset of the same seed lies within a larger one.

    Args:
        groups: the group of each item; the groups keep their shares, to one item.
    """
    ranked = [
        ((rank + 0.5) / len(members), index)
        for members in _members(groups, seed)
        for rank, index in enumerate(members)
    ]
    return [items[index] for index in sorted(index for _, index in sorted(ranked)[:count])]


def _group_of(row: Row, column: str | None) -> str:
    """Return the group of a row; what is no label is told when the row becomes an example."""
    value = row.value(column) if column else ""
    return str(value) if isinstance(value, (str, int)) else ""


def _members(groups: Sequence[str], seed: int = 0) -> list[list[int]]:
    """Return the indices of each group's items, shuffled."""
    found: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        found.setdefault(group, []).append(index)
    members = [found[group] for group in sorted(found)]
    for some in members:
        random.Random(seed).shuffle(some)
    return members


def _reader(files: list[Path]) -> Callable[[], list[Row]]:
    return lambda: [row for file in files for row in read_rows(file)]


def _missing(where: str, split: Split) -> DataError:
    endings = ", ".join(SUFFIXES)
    return DataError(f"{where}: no file for the {split} split ({split}.* with {endings})")
