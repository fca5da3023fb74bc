"""Splits: the rows for training, validation and testing, the data's own or made here.

No choice here depends on the seed of a run: runs that are to be compared see the same rows.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tunewise.data.rows import (
    SUFFIXES,
    OnBadRow,
    Row,
    Split,
    read_rows,
    refuse_row,
)
from tunewise.data.split_files import place_of, split_files
from tunewise.data.text_parts import text_parts
from tunewise.errors import DataError
from tunewise.files import check_regular

Item = TypeVar("Item")

HELD_OUT = 0.1
"""Fraction of rows without any split that is for validation, and again for testing."""
TRAIN_SIZE = 0.8
"""Fraction of training rows that is trained on if there are none for validation."""


@dataclass(frozen=True)
class Source:
    """The source of a task's rows, and the splits that it has."""

    where: str
    """A path, or the id of a data set on the hub, for errors."""
    splits: Mapping[Split, Callable[[OnBadRow], list[Row]]]
    """The data's own splits, each read when the function is called; see `OnBadRow`."""


def local_source(path: Path) -> Source:
    """Return the splits of a folder; a single file is all training rows.

    Args:
        path: a folder with files named for the splits (see `split_files`), or one file.

    Raises:
        DataError: if it is unclear which files of a folder a split has.
    """
    if not path.is_dir():
        if path.exists():
            _refuse_special(path)
        return Source(str(path), {"train": partial(read_rows, path)})
    files = split_files(path)
    return Source(str(path), {split: partial(_read_all, files[split]) for split in files})


def rows_of(
    source: Source,
    split: Split,
    group: str | None = None,
    train_size: float | None = None,
    on_bad_row: OnBadRow = refuse_row,
) -> list[Row]:
    """Return the rows of one split: always the same rows, in the order of the data.

    Of data with training rows only, 10 % are for validation and 10 % for testing. Of data without
    validation rows, 20 % of the training rows are for validation. Text files that are fewer than
    the splits are each cut by length.

    Args:
        group: a column whose values keep their shares in every split.
        train_size: fraction of the training rows to train on; the others are the validation rows,
            in place of the data's own.
        on_bad_row: takes the error of each row that is broken; see `OnBadRow`.

    Raises:
        DataError: if there are too few rows to split, or a split is missing.
    """
    available = source.splits
    if "test" not in available and "validation" in available:
        raise _missing(source, "test")
    own = {name for name in available if name != "validation" or train_size is None}
    if split != "train" and split in own:
        return available[split](on_bad_row)
    if "train" not in available:
        raise _missing(source, "train")
    rows = available["train"](on_bad_row)
    held_out: dict[Split, float]
    if "test" not in own:
        validation = HELD_OUT if train_size is None else (1 - HELD_OUT) * (1 - train_size)
        held_out = {"validation": validation, "test": HELD_OUT}
    elif "validation" not in own:
        held_out = {"validation": 1 - (train_size or TRAIN_SIZE)}
    else:
        return rows
    if 0 < len(rows) <= len(held_out) and all(row.suffix == ".txt" for row in rows):
        return [text_parts(row, held_out)[split] for row in rows]
    return split_rows(rows, split, held_out, source.where, group)


def read_split(
    path: Path, split: Split, group: str | None = None, train_size: float | None = None
) -> list[Row]:
    """Return the rows of one split of a folder or file; see `rows_of` and `local_source`."""
    return rows_of(local_source(path), split, group, train_size)


def split_rows(
    rows: list[Row],
    split: Split,
    shares: Mapping[Split, float],
    where: str,
    group: str | None = None,
) -> list[Row]:
    """Return the rows of a split, if these shares of all rows are held out of training."""
    chosen: list[int] = []
    largest = 0
    for members in _members([_group_of(row, group) for row in rows]):
        largest = max(largest, len(members))
        # A group too small to be split is for training, or its label would never be learned.
        held_out = shares if len(members) > len(shares) else {}
        start = 0
        for number, (name, share) in enumerate(held_out.items()):
            # One row at least is left for each split after this one.
            max_count = len(members) - start - (len(shares) - number)
            count = min(max(1, round(share * len(members))), max_count)
            if name == split:
                chosen += members[start : start + count]
            start += count
        if split == "train":
            chosen += members[start:]
    if largest <= len(shares):
        raise _too_few(rows, shares, where, group)
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


def _too_few(
    rows: list[Row], shares: Mapping[Split, float], where: str, group: str | None
) -> DataError:
    names = ", ".join(["train", *shares])
    values = {_group_of(row, group) for row in rows}
    if len(rows) > len(shares):
        is_unlike_labels = 2 * len(values) > len(rows)
        advice = (
            "are they labels, or numbers to be predicted?"
            if is_unlike_labels
            else "give more rows, or a folder with a file for each split"
        )
        return DataError(
            f"{where}: column {group!r} has {len(values)} different values in {len(rows)} rows, "
            f"too few of each to split into {names}; {advice}"
        )
    return DataError(
        f"{where}: too few rows ({len(rows)}) to split into {names}; give more rows, or a folder "
        "with a file for each split"
    )


def _group_of(row: Row, column: str | None) -> str:
    """Return the group of a row; a wrong label is reported when the row becomes an example."""
    value = row.value(column) if column else ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, (str, int)) else ""


def _members(groups: Sequence[str], seed: int = 0) -> list[list[int]]:
    """Return the indices of each group's items, shuffled."""
    by_group: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        by_group.setdefault(group, []).append(index)
    groups_in_order = [by_group[group] for group in sorted(by_group)]
    for members in groups_in_order:
        random.Random(seed).shuffle(members)
    return groups_in_order


def _refuse_special(path: Path) -> None:
    """Raise DataError if the rows of a task are not in a file: they are read more than once."""
    try:
        check_regular(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _read_all(files: list[Path], on_bad_row: OnBadRow) -> list[Row]:
    return [row for file in files for row in read_rows(file, on_bad_row)]


def _missing(source: Source, split: Split) -> DataError:
    endings, place = ", ".join(SUFFIXES), place_of(split, Path(source.where))
    return DataError(
        f"{source.where}: no file for the {split} split ({split}.* with {endings}); add one, "
        f"or give a single file of all rows, which is then split{place}"
    )
