"""Which files of a folder hold which split: each is read once, and none is joined in silence.

A file's name begins with the name of its split. `train.csv` is all of the split, and so are all
the shards `train-00000-of-00002.parquet`: what else begins with `train` is then left alone. Where
neither is there, the files `train_*` are parts of the split, and all of them are read.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tunewise.data.rows import SPLITS, SUFFIXES, Split, suffix_of
from tunewise.data.say_once import say_once
from tunewise.errors import DataError, first_of

logger = logging.getLogger(__name__)

NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""The names of splits that files begin with. `eval` is none: it is validation to some, and test
to others."""

STEM = re.compile(r"(?P<name>[a-z]+)(?:[-_.](?P<part>.+))?")
SHARD = re.compile(r"(?:(?P<part>.+)[-_.])?(?P<number>\d+)-of-(?P<count>\d+)(?:-[0-9a-f]+)?")


@dataclass(frozen=True)
class SetKey:
    """A file, or the shards of one: what their names have in common."""

    name: str
    part: str
    """What follows the name of the split; empty if the set is all of the split."""
    count: int
    """The number of shards; 1 for a file that is none."""
    suffix: str


@dataclass(frozen=True)
class SplitFile:
    """A file that a split's name begins."""

    path: Path
    set: SetKey
    number: int
    """The number of the shard."""


def split_files(folder: Path) -> dict[Split, list[Path]]:
    """Return the files of each split of a folder, and say which are read and which are not.

    Raises:
        DataError: if it is unclear which files a split has, or one of its shards is missing.
    """
    paths = sorted(folder.iterdir())
    known = [file for path in paths if (file := _split_file(path))]
    files: dict[Split, list[Path]] = {}
    for split in SPLITS:
        if own := [file for file in known if NAMES[file.set.name] == split]:
            files[split] = [file.path for file in _chosen(own, split, folder)]
    _say_files(folder, paths, files)
    return files


def place_of(split: Split, folder: Path) -> str:
    """Return where the rows of a split may be that a folder has no file for, if it shows."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    if {"dataset_dict.json", "state.json"} & {path.name for path in paths}:
        return (
            "; this is a folder of save_to_disk: read it with load_from_disk, and write each split "
            f"with to_json({split + '.jsonl'!r}, lines=True)"
        )
    for path in filter(Path.is_dir, paths):
        if path.name.lower() in NAMES:
            return f"; {path.name} is a folder: write the rows of a split to one file"
        if any(map(_split_file, path.iterdir())):
            return f"; {path.name} has files of splits: give that folder"
    words = {word for word, name in NAMES.items() if name == split}
    visible = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    alike = [path for path in visible if words & {*re.findall("[a-z]+", path.name.lower())}]
    files = [path for path in alike or visible if suffix_of(path) in SUFFIXES]
    if not alike:
        return f", such as {files[0].name}" if len(files) == 1 else ""
    if not files:
        return f"; {_names(alike)} is of another kind"
    ending = files[0].name.lower().removeprefix(Path(files[0].stem.lower()).stem)
    if len(files) == 1:
        return f"; if it is {_names(files)}, name it {split}{ending}"
    return f"; if they are {_names(files)}, name them {split}_1{ending} and so on"


def _split_file(path: Path) -> SplitFile | None:
    """Return what a file's name says, if it is a data file and begins with the name of a split."""
    suffix = suffix_of(path)
    stem = STEM.fullmatch(path.name.lower().removesuffix(".gz").removesuffix(suffix))
    if suffix not in SUFFIXES or path.is_dir() or stem is None or stem["name"] not in NAMES:
        return None
    part = stem["part"] or ""
    if shard := SHARD.fullmatch(part):
        key = SetKey(stem["name"], shard["part"] or "", int(shard["count"]), suffix)
        return SplitFile(path, key, int(shard["number"]))
    return SplitFile(path, SetKey(stem["name"], part, 1, suffix), 1)


def _chosen(files: list[SplitFile], split: Split, folder: Path) -> list[SplitFile]:
    """Return the files of a split that are read, of those whose names begin with its name."""
    whole = [file for file in files if not file.set.part]
    chosen = whole or files
    sets: dict[SetKey, list[SplitFile]] = {}
    for file in chosen:
        sets.setdefault(file.set, []).append(file)
    kinds = {key if whole else (key.name, key.suffix): of_set[0] for key, of_set in sets.items()}
    if len(kinds) > 1:
        raise _ambiguous([file.path for file in kinds.values()], split, folder)
    for key, of_set in sets.items():
        numbers = sorted(file.number for file in of_set)
        if len(numbers) > key.count or len(set(numbers)) < len(numbers):
            raise _ambiguous([file.path for file in of_set], split, folder)
        if len(numbers) < key.count or numbers[-1] - numbers[0] != key.count - 1:
            found = _names(file.path for file in of_set)
            raise DataError(
                f"{folder}: shards of the {split} split are missing: {len(numbers)} of "
                f"{key.count} are there ({found})"
            )
    return chosen


def _ambiguous(paths: list[Path], split: Split, folder: Path) -> DataError:
    return DataError(
        f"{folder}: the {split} split is there more than once, or in parts of several kinds: "
        f"{_names(paths)}; keep one"
    )


def _say_files(folder: Path, paths: list[Path], files: dict[Split, list[Path]]) -> None:
    """Say which files of a folder are read, and which data files are not."""
    read = {path for of_split in files.values() for path in of_split}
    if read:
        said = "; ".join(f"{split}: {_names(of_split)}" for split, of_split in files.items())
        say_once(logger, logging.INFO, f"{folder}: {said}")
    if unread := [path for path in paths if path not in read and _looks_like_data(path)]:
        say_once(
            logger,
            logging.WARNING,
            f"{folder}: not read: {_names(unread)}; a split is one file, or its shards, named "
            "train, validation (valid, val, dev) or test",
        )


def _names(paths: Iterable[Path]) -> str:
    """Return the names of some files; of many, the first and how many more there are."""
    return first_of(path.name for path in paths)


def _looks_like_data(path: Path) -> bool:
    """Return whether a file is of a known kind, or is called as a split is."""
    name = re.match("[a-z]+", path.name.lower())
    return suffix_of(path) in SUFFIXES or (name is not None and name[0] in NAMES)
