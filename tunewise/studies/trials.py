"""Trials: the configurations that a study runs, with their status in the study's folder.

A cell's candidates are tried first, with one seed each. Then the cell is run once per seed, with
the values of the best candidate. The status of each is read from its folder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from tunewise.config import RunConfig
from tunewise.errors import ConfigError
from tunewise.metrics import METRICS
from tunewise.runs.folder import read_error, read_result
from tunewise.settings import Settings
from tunewise.studies.overrides import Overrides, folder_name, title_of
from tunewise.studies.study import Cell, Study

STUDY_FILE = "study.yaml"
COMMAND_FILE = "command.txt"
RUNS_FOLDER = "runs"
SEARCHES_FOLDER = "searches"

NEAR_END = 0.05
"""Share of a search's interval, at either end, that counts as its end."""

Status = Literal["finished", "failed", "pruned", "open"]


@dataclass(frozen=True)
class Trial:
    """One configuration that a study tries: a candidate for a cell, or the cell with one seed."""

    title: str
    """The cell's name, followed by the values of a candidate."""
    name: str
    """Name among the cell's trials: a candidate's values, or `seed 1`."""
    overrides: Overrides
    """The fields that a candidate sets; empty for a seed."""
    config: RunConfig
    folder: Path
    is_candidate: bool
    keeps_weights: bool = True
    """Whether its trained weights are kept when it has finished."""
    status: Status = "open"
    value: float = math.nan
    """Best validation value of the metric that chooses; nan unless finished."""
    error: str = ""
    """The error with which it failed."""


class SearchEntry(Settings):
    """One candidate in the file of a cell's search."""

    overrides: Overrides
    folder: str = Field(pattern=r"^[\w.=+-]*[\w=+-]$")
    """Name of its folder, in the study's folder of runs."""
    status: str


SEARCH_ENTRIES = TypeAdapter(list[SearchEntry])


def candidates_of(study: Study, cell: Cell, folder: Path) -> list[Trial]:
    """Return the candidates for a cell: from the `tune` grid, or from the file of its search.

    Args:
        folder: the study's folder.
    """
    if study.search:
        return _candidates_of_search(study, cell, folder)
    return [
        _read_status(new_candidate(study, cell, overrides, folder))
        for overrides in study.candidates()
    ]


def new_candidate(study: Study, cell: Cell, overrides: Overrides, folder: Path) -> Trial:
    """Return the candidate for a cell that sets these fields; its status is not read."""
    name = title_of(overrides)
    title = f"{cell.name}, {name}"
    config = study.config(cell.name, cell.overrides, overrides)
    place = folder / RUNS_FOLDER / folder_name(f"try_{title}", config)
    keeps = study.keep_candidates
    return Trial(title, name, overrides, config, place, is_candidate=True, keeps_weights=keeps)


def seeds_of(study: Study, cell: Cell, folder: Path) -> list[Trial]:
    """Return the trials of a cell with each of its seeds; none as long as no candidate has won.

    Args:
        folder: the study's folder.
    """
    tuned = apply_winner(study, cell, candidates_of(study, cell, folder))
    if tuned is None:
        return []
    return [_read_status(_new_seed(tuned, number, folder)) for number in range(study.seeds)]


def _new_seed(cell: Cell, number: int, folder: Path) -> Trial:
    config = cell.with_seed(number)
    place = folder / RUNS_FOLDER / folder_name(cell.name, config)
    return Trial(cell.name, f"seed {config.seed}", {}, config, place, is_candidate=False)


def apply_winner(study: Study, cell: Cell, candidates: Sequence[Trial]) -> Cell | None:
    """Return the cell with the values of its best candidate; None as long as there is none.

    A cell without `tune` or `search` is returned as it is.
    """
    if not (study.tune or study.search):
        return cell
    best = find_winner(cell, candidates)
    if best is None or any(candidate.status == "open" for candidate in candidates):
        return None
    return Cell(cell.name, cell.overrides, best.config)


def find_winner(cell: Cell, candidates: Sequence[Trial]) -> Trial | None:
    """Return the candidate with the best validation value: the first one, if several have it."""
    metric = METRICS[cell.config.metric]
    best: Trial | None = None
    for candidate in candidates:
        if best is None or metric.better(candidate.value, than=best.value):
            best = candidate
    return None if best is None or math.isnan(best.value) else best


def find_edges(study: Study, winner: Trial | None) -> list[str]:
    """Return the fields whose winning value lies at the end of the range that was tried."""
    if winner is None:
        return []
    return [field for field, value in winner.overrides.items() if _is_at_end(study, field, value)]


def _is_at_end(study: Study, field: str, value: Any) -> bool:
    if study.search is None:
        return _is_extreme(value, [overrides[field] for overrides in study.candidates()])
    space = study.search.space[field]
    if space.choices is not None:
        return _is_extreme(value, space.choices)
    assert space.low is not None and space.high is not None
    scale = math.log if space.log else float
    low, high, here = scale(space.low), scale(space.high), scale(value)
    return not NEAR_END <= (here - low) / (high - low) <= 1 - NEAR_END


def _is_extreme(value: Any, tried: Sequence[Any]) -> bool:
    """Return whether a value is the smallest or the largest number of those tried."""
    numbers = [other for other in tried if type(other) in (int, float)]
    return len(set(numbers)) > 1 and value in (min(numbers), max(numbers))


def search_file(cell: Cell, folder: Path) -> Path:
    """Return the file in which the candidates of a cell's search are listed."""
    return folder / SEARCHES_FOLDER / f"{folder_name(cell.name, cell.config)}.json"


def _candidates_of_search(study: Study, cell: Cell, folder: Path) -> list[Trial]:
    assert study.search is not None
    path = search_file(cell, folder)
    try:
        entries = SEARCH_ENTRIES.validate_json(path.read_bytes()) if path.is_file() else []
    except ValueError as error:
        raise ConfigError(f"{path}: not as a search leaves it: {error}") from error
    candidates = []
    for entry in entries:
        candidate = new_candidate(study, cell, entry.overrides, folder)
        candidate = _read_status(replace(candidate, folder=folder / RUNS_FOLDER / entry.folder))
        if entry.status == "pruned":
            candidate = replace(candidate, status="pruned")
        candidates.append(candidate)
    missing = Trial(cell.name, "still to be chosen", {}, cell.config, folder, is_candidate=True)
    return candidates + [missing] * (study.search.trials - len(candidates))


def _read_status(trial: Trial) -> Trial:
    """Return the trial with the status and the value that its folder holds."""
    if (result := read_result(trial.folder)) is not None:
        if not result.is_finite:
            return replace(trial, status="failed", error="the model's outputs are not finite")
        return replace(trial, status="finished", value=result.best.value)
    if (error := read_error(trial.folder)) is not None:
        return replace(trial, status="failed", error=error)
    return trial
