"""The rows of a study, read before its first run: they are there, and cells are tested on the same.

Two tasks of the user's own may have one name and other rows, so the rows themselves are compared.
Settings that change what is made of a row, such as a template, may differ between cells.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunewise.data.rows import SPLITS, Split
from tunewise.errors import ConfigError, TunewiseError
from tunewise.evaluation.answers import TextAnswer
from tunewise.json_text import to_json
from tunewise.runs.memo import Shared
from tunewise.runs.origin import hash_examples, read_origin
from tunewise.runs.prepare import read_examples
from tunewise.studies.study import Cell, Study
from tunewise.studies.trials import Trial, candidates_of, seeds_of
from tunewise.tasks import Task

MAX_SHOWN = 60
"""Most characters of a value that a message shows."""


class Use(NamedTuple):
    """A task, and the first cell that uses it."""

    cell: str
    task: Task


class ComparedRow(NamedTuple):
    """A row by which set-ups are compared."""

    id: str
    expected: str
    """The answer that metrics expect."""
    values: dict[str, str]
    """The value of each column, as JSON."""


def check_rows(study: Study, folder: Path, data: Path | None, shared: Shared) -> None:
    """Read the rows of all cells and candidates, unless every run of the study is done.

    Args:
        folder: the study's folder.
        data: the folder in which a named task's rows are searched.
        shared: keeps the rows for the runs.

    Raises:
        DataError: if the rows of a cell cannot be used.
        ConfigError: if cells would be tested, or candidates of one cell be chosen, by different
            rows, or if a run that was started earlier has others than there are now.
    """
    trials, is_done = [], True
    for cell in study.cells():
        candidates, seeds = candidates_of(study, cell, folder), seeds_of(study, cell, folder)
        trials += [*candidates, *seeds]
        is_done = is_done and bool(seeds)
    if is_done and all(trial.status in ("finished", "pruned") for trial in trials):
        return
    by_cell = [_uses(study, cell) for cell in study.cells()]
    tested: dict[str, Use] = {}
    for uses in by_cell:
        tested |= {key: use for key, use in uses.items() if key not in tested}
    for use in tested.values():
        try:
            for split in SPLITS:
                read_examples(use.task, split, data, shared)
        except TunewiseError as error:
            where = f"study {study.name}: {use.cell}: " if len(tested) > 1 else ""
            raise type(error)(f"{where}{error}") from error
    for uses in by_cell:
        _compare(list(uses.values()), "validation", study, data, shared)
    _compare(list(tested.values()), "test", study, data, shared)
    _compare_with_earlier(trials, data, shared)


def _uses(study: Study, cell: Cell) -> dict[str, Use]:
    """Return the tasks of a cell and its candidates, each by its settings as JSON."""
    configs = [
        study.config(cell.name, cell.overrides, overrides)
        for overrides in study.possible_overrides()
    ]
    return {config.task.model_dump_json(): Use(cell.name, config.task) for config in configs}


def _compare(
    uses: Sequence[Use], split: Split, study: Study, data: Path | None, shared: Shared
) -> None:
    """Raise ConfigError unless several tasks have the same rows of a split."""
    if len(uses) < 2:
        return
    first, *others = uses
    rows = _rows_of(first.task, split, data, shared)
    for other in others:
        if problem := _difference(rows, _rows_of(other.task, split, data, shared)):
            if split == "test":
                what = f"cells {first.cell!r} and {other.cell!r} would be tested on different rows"
            else:
                what = f"candidates of cell {first.cell!r} would be chosen by different rows"
            raise ConfigError(
                f"study {study.name}: {what}, so their figures cannot be compared: {problem}; "
                f"give them one {split} split, or write a study for each"
            )


def _rows_of(task: Task, split: Split, data: Path | None, shared: Shared) -> list[ComparedRow]:
    """Return the rows of a split that a task uses, as they are in the data."""
    source = task.source(data)
    # Rows may be held out of the training rows. Ids differ between splits.
    values = {
        row.id: {str(column): _json(value) for column, value in row.values.items()}
        for name in ("train", split)
        if name in source.splits
        for row in source.splits[name](lambda error: None)
    }
    kind = task.answer_kind
    return [
        ComparedRow(
            example.id,
            kind.compare(example, "").expected
            if isinstance(kind, TextAnswer)
            else example.target.strip(),
            values.get(example.id, {}),
        )
        for example in read_examples(task, split, data, shared)
    ]


def _json(value: Any) -> str:
    return to_json(value, sort_keys=True, ascii_only=False, default=str)


def _difference(first: Sequence[ComparedRow], second: Sequence[ComparedRow]) -> str:
    """Return in words where two splits first differ; "" if they are the same."""
    if len(first) != len(second):
        return f"{len(first)} rows and {len(second)}"
    for row, other in zip(first, second, strict=True):
        if row.id != other.id:
            return f"{row.id} and {other.id} stand in one place"
        for column in {**row.values, **other.values}:
            texts = [each.values.get(column, "nothing") for each in (row, other)]
            if texts[0] != texts[1]:
                return (
                    f"column {column!r} of {row.id} holds {_short(texts[0])} and {_short(texts[1])}"
                )
        if row.expected != other.expected:
            answers = [_short(repr(each.expected)) for each in (row, other)]
            return f"the answer to {row.id} is {answers[0]} and {answers[1]}"
    return ""


def _short(value: str) -> str:
    """Return a value, of a long one beginning and end."""
    return value if len(value) <= MAX_SHOWN else f"{value[: MAX_SHOWN - 20]}...{value[-17:]}"


def _compare_with_earlier(trials: Sequence[Trial], data: Path | None, shared: Shared) -> None:
    """Raise ConfigError if a run in the study's folder has other rows than there are now."""
    hashes: dict[tuple[str, Split], str] = {}
    for trial in trials:
        if trial.status not in ("finished", "open"):
            continue
        if (origin := read_origin(trial.folder)) is None:
            continue
        task = trial.config.task
        keys = {split: (task.model_dump_json(), split) for split in origin.rows}
        for split, key in keys.items():
            if key not in hashes:
                hashes[key] = hash_examples(read_examples(task, split, data, shared))
        rows = {split: hashes[key] for split, key in keys.items()}
        if changed := origin.changed_splits(rows):
            raise ConfigError(
                f"the {changed[0]} rows are not those that {trial.folder} was started with; bring "
                "them back, or begin the study anew with another --out"
            )
