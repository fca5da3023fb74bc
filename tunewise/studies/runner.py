"""The runs of a study, one after the other or several at once, in this session or the next."""

import math
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from tunewise.config import write_yaml
from tunewise.errors import ConfigError, TunewiseError
from tunewise.files import write_whole
from tunewise.run import run
from tunewise.runs.folder import (
    LOCK_FILE,
    METRICS_FILE,
    locked,
    read_error,
    read_lines,
    read_result,
    write_error,
)
from tunewise.runs.memo import Shared
from tunewise.runs.progress import Progress
from tunewise.runs.result import Evaluation
from tunewise.studies.search import Watch, search
from tunewise.studies.study import Cell, Study
from tunewise.studies.trials import (
    COMMAND,
    STUDY,
    Planned,
    candidates_of,
    planned_candidates,
    planned_seeds,
    with_winner,
)
from tunewise.studies.workers import POLL_SECONDS, workers
from tunewise.training.loop import Step

OF_A_BEGINNING = (LOCK_FILE, f"{STUDY}.part")
"""What a study may leave that is stopped at once."""


@dataclass(frozen=True)
class Event:
    """How far a run is: its share of updates, or how it ended."""

    run: str
    """Its folder's name."""
    title: str
    share: float
    """0 to 1."""
    seconds: float
    ended: str = ""
    """In a few words, once it has: its value, or its error."""
    value: float | None = None
    """The best validation value, once it has finished."""


Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Work:
    """What one process is given: a run, or the whole search of a cell."""

    study: Study
    folder: Path
    data: Path | None
    planned: Planned | None = None
    cell: Cell | None = None


def run_study(study: Study, folder: Path, data: Path | None, jobs: int, tell: Tell) -> list[str]:
    """Run everything of a study that has not been run; return what failed, a line each.

    All candidates come first, then each cell's seeds with the values that won. A run that fails is
    written down, and the others go on. What an earlier session finished stays as it is; what failed
    there is tried again, and what was cut short begins anew.

    Args:
        folder: the study's; see `open_folder`.
        data: the folder in which a named task's rows are searched.
        jobs: processes at once; they share the processor's threads.

    Raises:
        ConfigError: if the study cannot be run.
        TrainingError: if a process was killed.
    """
    cells = study.cells()
    with locked(folder), workers(jobs, _do, tell) as work_off:
        write_yaml(study, folder / STUDY)
        write_whole(folder / COMMAND, _command(folder, data) + "\n")
        candidates = [
            Work(study, folder, data, planned)
            for cell in cells
            for planned in planned_candidates(study, cell, folder)
        ]
        searches = [Work(study, folder, data, cell=cell) for cell in cells] if study.search else []
        work_off([work for work in candidates if _is_open(work)] + searches)
        seeds = [
            Work(study, folder, data, planned)
            for cell in cells
            for planned in planned_seeds(study, cell, folder)
        ]
        work_off([work for work in seeds if _is_open(work)])
    return failures(study, folder)


def open_folder(folder: Path, resume: bool) -> None:
    """Make a study's folder, or take one up again.

    Raises:
        ConfigError: if it holds something and is not to be resumed, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds_something = any(path.name not in OF_A_BEGINNING for path in folder.iterdir())
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be used: {error.strerror}") from error
    if holds_something and not resume:
        raise ConfigError(
            f"--out {folder}: holds something already, and nothing is overwritten; "
            "--resume goes on with a study"
        )
    if holds_something and not (folder / STUDY).is_file():
        raise ConfigError(f"--out {folder}: has no {STUDY}, so it is not the folder of a study")


def _command(folder: Path, data: Path | None) -> str:
    """Return what repeats the study, in a folder of its own."""
    words = ["tunewise", "study", str(folder / STUDY)]
    words += [] if data is None else ["--data", str(data.absolute())]
    return shlex.join([*words, "--out", f"{folder}-again"])


def failures(study: Study, folder: Path) -> list[str]:
    """Return what failed, a line each."""
    lines = []
    for cell in study.cells():
        candidates = candidates_of(study, cell, folder)
        for candidate in candidates:
            if candidate.status == "failed":
                error = read_error(candidate.folder)
                lines.append(f"{cell.name}, {candidate.name}: {error}")
        if with_winner(study, cell, candidates) is None:
            lines.append(f"{cell.name}: no candidate has finished, so it was not run")
        for planned in planned_seeds(study, cell, folder):
            if (error := read_error(planned.folder)) is not None:
                lines.append(f"{cell.name}, seed {planned.config.seed}: {error}")
    return lines


def _is_open(work: Work) -> bool:
    return work.planned is None or not work.planned.is_finished


def _do(work: Work, shared: Shared, tell: Tell) -> None:
    if work.planned is not None:
        _attempt(work.planned, work.data, shared, tell)
        return
    assert work.cell is not None

    def attempt(planned: Planned, watch: Watch) -> float | None:
        return _attempt(planned, work.data, shared, tell, watch)

    search(work.study, work.cell, work.folder, attempt)


def _attempt(
    planned: Planned, data: Path | None, shared: Shared, tell: Tell, watch: Watch | None = None
) -> float | None:
    """Make one run; return its best validation value, or None if it failed."""
    told = _Told(planned, tell, watch)
    if (result := read_result(planned.folder)) is not None:
        told.repeat()
        return result.best.value
    if read_error(planned.folder) is not None:
        rmtree(planned.folder)  # tried again from the start
    told.tell(0.0)
    try:
        record = run(
            planned.config,
            data,
            planned.folder,
            told,
            shared,
            read_test=not planned.is_candidate,
            resume=True,
        )
    except (TunewiseError, RuntimeError, MemoryError) as error:
        write_error(planned.folder, error)
        told.tell(1.0, f"failed: {' '.join(str(error).split())}")
        return None
    best = record.result.best
    ended = f"validation {best.metric} {best.value:.4f}"
    if (test := record.result.metrics.get("test")) is not None:
        ended += f", test {test[best.metric]:.4f}"
    told.tell(1.0, ended, best.value)
    return best.value


class _Told(Progress):
    """Tells how far a run is, and asks at each evaluation whether it is to go on."""

    def __init__(self, planned: Planned, tell: Tell, watch: Watch | None) -> None:
        super().__init__()
        self._planned, self._tell, self._watch = planned, tell, watch
        self._started = self._last = time.monotonic()

    def tell(self, share: float, ended: str = "", value: float | None = None) -> None:
        """Tell a share of updates, or how the run ended."""
        self._last = time.monotonic()
        title = f"{self._planned.title}, seed={self._planned.config.seed}"
        name = self._planned.folder.name
        self._tell(Event(name, title, share, self._last - self._started, ended, value))

    def step(self, step: Step) -> None:
        """Tell an update, if none was told of late."""
        if time.monotonic() - self._last > POLL_SECONDS:
            self.tell(step.number / self._total)

    def evaluated(self, step: Step, values: Mapping[str, float], is_best: bool) -> None:
        """Have the search look at an evaluation."""
        self._look(step.number, values)

    def repeat(self) -> None:
        """Have the search look at the evaluations of a run that has finished before."""
        for line in read_lines(self._planned.folder / METRICS_FILE):
            if isinstance(line, Evaluation):
                self._look(line.number, line.validation)

    def _look(self, number: int, values: Mapping[str, float]) -> None:
        value = values[self._planned.config.metric]
        if self._watch is not None and not math.isnan(value):
            self._watch(number, value)
