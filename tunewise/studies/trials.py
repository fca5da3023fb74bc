"""What a study still has to do, told from its folder alone: nothing else remembers it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter

from tunewise.config import RunConfig
from tunewise.errors import ConfigError
from tunewise.metrics import METRICS
from tunewise.runs.folder import RESULT_FILE, read_error, read_result
from tunewise.settings import Settings
from tunewise.studies.study import Cell, Overrides, Study, folder_name, title_of

STUDY = "study.yaml"
COMMAND = "command.txt"
RUNS = "runs"
SEARCHES = "searches"

Status = Literal["finished", "failed", "pruned", "open"]


class Tried(Settings):
    """One candidate of a search, as its file has it."""

    overrides: Overrides
    folder: str = Field(pattern=r"^[\w.=+-]*[\w=+-]$")
    """The name of its run's folder, in the study's."""
    status: str


TRIED = TypeAdapter(list[Tried])


@dataclass(frozen=True)
class Candidate:
    """One set of values tried for a cell, judged on validation data."""

    name: str
    overrides: Overrides
    folder: Path
    status: Status
    value: float
    """The best validation value of the metric that chooses; not a number unless finished."""


@dataclass(frozen=True)
class Planned:
    """One run of a study: a cell's candidate, or a cell with one of its seeds."""

    title: str
    config: RunConfig
    folder: Path
    is_candidate: bool

    @property
    def is_finished(self) -> bool:
        """Whether it has left its result."""
        return (self.folder / RESULT_FILE).is_file()


def planned_candidates(study: Study, cell: Cell, folder: Path) -> list[Planned]:
    """Return the runs that try the cell's `tune` grid."""
    return [
        planned_run(folder, f"{cell.name}, {candidate.name}", candidate.config, True)
        for candidate in study.candidates(cell)
    ]


def planned_run(folder: Path, title: str, config: RunConfig, is_candidate: bool) -> Planned:
    """Return a run and the place it has in the study's folder."""
    name = f"try_{title}" if is_candidate else title
    return Planned(title, config, folder / RUNS / folder_name(name, config), is_candidate)


def planned_seeds(study: Study, cell: Cell, folder: Path) -> list[Planned]:
    """Return the cell's runs, one per seed, with the values that won; none before one has won."""
    settled = with_winner(study, cell, candidates_of(study, cell, folder))
    if settled is None:
        return []
    return [
        planned_run(folder, cell.name, settled.with_seed(number), False)
        for number in range(study.seeds)
    ]


def with_winner(study: Study, cell: Cell, candidates: Sequence[Candidate]) -> Cell | None:
    """Return the cell with the values of its best candidate; None if there is none yet.

    A cell with nothing to choose is as it is. Of equals the first wins.
    """
    if not (study.tune or study.search):
        return cell
    best = winner(cell, candidates)
    if best is None or any(candidate.status == "open" for candidate in candidates):
        return None
    return Cell(cell.name, cell.overrides, study.config(cell.name, cell.overrides, best.overrides))


def winner(cell: Cell, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate with the best validation value."""
    metric = METRICS[cell.config.metric]
    best: Candidate | None = None
    for candidate in candidates:
        if best is None or metric.better(candidate.value, than=best.value):
            best = candidate
    return None if best is None or math.isnan(best.value) else best


def candidates_of(study: Study, cell: Cell, folder: Path) -> list[Candidate]:
    """Return what has been tried for a cell, or is to be, with what came of it."""
    if study.search:
        return _searched(study.search.trials, cell, folder)
    return [
        Candidate(tried.name, tried.overrides, planned.folder, *_outcome(planned.folder))
        for tried, planned in zip(
            study.candidates(cell), planned_candidates(study, cell, folder), strict=True
        )
    ]


def search_file(cell: Cell, folder: Path) -> Path:
    """Return where the candidates of a cell's search are written down."""
    return folder / SEARCHES / f"{folder_name(cell.name, cell.config)}.json"


def _searched(trials: int, cell: Cell, folder: Path) -> list[Candidate]:
    path = search_file(cell, folder)
    try:
        trials_made = TRIED.validate_json(path.read_bytes()) if path.is_file() else []
    except ValueError as error:
        raise ConfigError(f"{path}: not as a search leaves it: {error}") from error
    candidates = []
    for tried in trials_made:
        name, place = title_of(tried.overrides), folder / RUNS / tried.folder
        status, value = _outcome(place)
        status = "pruned" if tried.status == "pruned" else status
        candidates.append(Candidate(name, tried.overrides, place, status, value))
    missing = Candidate("still to be chosen", {}, folder, "open", math.nan)
    return candidates + [missing] * (trials - len(candidates))


def _outcome(folder: Path) -> tuple[Status, float]:
    """Return how a run ended, and its best validation value."""
    if (result := read_result(folder)) is not None:
        return "finished", result.best.value
    return "failed" if read_error(folder) else "open", math.nan
