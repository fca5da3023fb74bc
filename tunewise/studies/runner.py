"""The runs of a study: started one after the other or several at once, and resumed."""

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import rmtree

from tunewise.config import write_yaml
from tunewise.errors import ConfigError, TunewiseError
from tunewise.files import write_whole
from tunewise.run import run
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    LOCK_FILE,
    METRICS_FILE,
    ORIGIN_FILE,
    locked,
    read_error,
    read_lines,
    read_result,
    write_error,
)
from tunewise.runs.memo import Shared
from tunewise.runs.origin import Origin, kept_data, write_origin
from tunewise.runs.progress import Progress
from tunewise.runs.result import Evaluation
from tunewise.studies.check import check_rows
from tunewise.studies.events import Event, Notify
from tunewise.studies.search import Watch, search
from tunewise.studies.study import Cell, Study
from tunewise.studies.trials import (
    COMMAND_FILE,
    STUDY_FILE,
    Trial,
    apply_winner,
    candidates_of,
    seeds_of,
)
from tunewise.studies.workers import POLL_SECONDS, WorkItem, workers
from tunewise.training.loop import Step

LEFT_AT_START = (LOCK_FILE, ORIGIN_FILE, f"{ORIGIN_FILE}.part", f"{STUDY_FILE}.part")
"""Files that a study may leave if it is stopped before it has written anything."""


def open_folder(folder: Path, resume: bool) -> None:
    """Make a study's folder, or check that an existing one can be resumed.

    Raises:
        ConfigError: if it holds something and `resume` is false, or if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds_something = any(path.name not in LEFT_AT_START for path in folder.iterdir())
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be used: {error.strerror}") from error
    if holds_something and not resume:
        raise ConfigError(
            f"--out {folder}: holds something already, and nothing is overwritten; "
            "--resume continues a study"
        )
    if holds_something and not (folder / STUDY_FILE).is_file():
        raise ConfigError(
            f"--out {folder}: has no {STUDY_FILE}, so it is not the folder of a study"
        )


def run_study(
    study: Study,
    folder: Path,
    data: Path | None,
    jobs: int,
    notify: Notify,
    shared: Shared | None = None,
) -> list[str]:
    """Run everything of a study that has not finished; return the failures, a line each.

    All candidates come first, then each cell's seeds with the values of its best candidate. A run
    that fails is recorded in its folder, and the others continue. In a resumed study, finished runs
    stay as they are, stopped runs resume from their checkpoints, and failed runs are tried again
    from the start.

    Args:
        folder: the study's folder; see `open_folder`.
        data: the folder in which a named task's rows are searched; without it, the one that the
            study was started with.
        jobs: processes at once, among which the threads of the processor are divided.
        shared: what was read before, such as rows.

    Raises:
        TunewiseError: if the study cannot be run, or its rows cannot be used; see `check_rows`.
        TrainingError: if a process was killed.
    """
    cells, shared, data = study.cells(), shared or Shared(), data or kept_data(folder)
    with locked(folder), workers(jobs, notify, shared) as do_all:
        check_rows(study, folder, data, shared)
        write_origin(Origin(data=None if data is None else data.absolute()), folder)
        write_yaml(study, folder / STUDY_FILE)
        write_whole(folder / COMMAND_FILE, _command(folder, data) + "\n")
        if study.search:
            do_all([partial(search_cell, study, cell, folder, data) for cell in cells])
        else:
            candidates = [trial for cell in cells for trial in candidates_of(study, cell, folder)]
            do_all(_work_left(candidates, data))
        seeds = [trial for cell in cells for trial in seeds_of(study, cell, folder)]
        do_all(_work_left(seeds, data))
    return list_failures(study, folder)


def _command(folder: Path, data: Path | None) -> str:
    """Return the command that repeats the study, in another folder."""
    words = ["tunewise", "study", str(folder / STUDY_FILE)]
    words += [] if data is None else ["--data", str(data.absolute())]
    return shlex.join([*words, "--out", f"{folder}-again"])


def _work_left(trials: Sequence[Trial], data: Path | None) -> list[WorkItem]:
    return [partial(run_trial, trial, data) for trial in trials if trial.status != "finished"]


def list_failures(study: Study, folder: Path) -> list[str]:
    """Return the trials that failed and the cells that could not be run, a line each."""
    lines = []
    for cell in study.cells():
        candidates = candidates_of(study, cell, folder)
        has_winner = apply_winner(study, cell, candidates) is not None
        lines += [_failure(cell, trial) for trial in candidates if trial.status == "failed"]
        if not has_winner:
            lines.append(f"{cell.name}: no candidate has finished, so it was not run")
        seeds = seeds_of(study, cell, folder)
        lines += [_failure(cell, trial) for trial in seeds if trial.status == "failed"]
    return lines


def _failure(cell: Cell, trial: Trial) -> str:
    return f"{cell.name}, {trial.name}: {trial.error}"


def search_cell(
    study: Study, cell: Cell, folder: Path, data: Path | None, shared: Shared, notify: Notify
) -> None:
    """Search the candidates of a cell, as the work of one process."""

    def attempt(trial: Trial, watch: Watch) -> float | None:
        return run_trial(trial, data, shared, notify, watch)

    search(study, cell, folder, attempt)


def run_trial(
    trial: Trial, data: Path | None, shared: Shared, notify: Notify, watch: Watch | None = None
) -> float | None:
    """Run or resume one trial; return its best validation value, or None if it failed.

    Args:
        watch: called at each evaluation, also at those of a trial that has finished before.
    """
    progress = _TrialProgress(trial, notify, watch)
    result = read_result(trial.folder)
    if result is not None and result.is_finite:
        progress.repeat_evaluations()
        return result.best.value
    if result is not None or read_error(trial.folder) is not None:
        rmtree(trial.folder)  # tried again from the start
    progress.send(0.0)
    try:
        record = run(
            trial.config,
            data,
            trial.folder,
            progress,
            shared,
            read_test=not trial.is_candidate,
            keep_weights=trial.keeps_weights,
            resume=True,
        )
    except (TunewiseError, RuntimeError, MemoryError) as error:
        write_error(trial.folder, error)
        progress.send(1.0, f"failed: {' '.join(str(error).split())}")
        return None
    rmtree(trial.folder / CHECKPOINT_FOLDER, ignore_errors=True)  # only its study lengthens it
    best = record.result.best
    ended = f"validation {best.metric} {best.value:.4f}"
    if (test := record.result.metrics.get("test")) is not None:
        ended += f", test {test[best.metric]:.4f}"
    progress.send(1.0, ended, best.value)
    return best.value


class _TrialProgress(Progress):
    """Sends the progress of a trial as events, and passes its evaluations to the search."""

    def __init__(self, trial: Trial, notify: Notify, watch: Watch | None) -> None:
        super().__init__()
        self._trial, self._notify, self._watch = trial, notify, watch
        self._started = self._last = time.monotonic()

    def send(self, share: float, ended: str = "", value: float | None = None) -> None:
        """Send the share of updates that are done, or how the trial ended."""
        self._last = time.monotonic()
        title = f"{self._trial.title}, seed={self._trial.config.seed}"
        run = self._trial.folder.name
        self._notify(Event(run, title, share, self._last - self._started, ended, value))

    def step(self, step: Step) -> None:
        """Send an update, unless an event was sent a moment ago."""
        if time.monotonic() - self._last > POLL_SECONDS:
            self.send(step.number / self._total)

    def evaluated(self, step: Step, values: Mapping[str, float], is_best: bool) -> None:
        """Show an evaluation to the search."""
        self._show_search(step.number, values)

    def repeat_evaluations(self) -> None:
        """Show the evaluations of a trial that has finished before to the search."""
        for line in read_lines(self._trial.folder / METRICS_FILE):
            if isinstance(line, Evaluation):
                self._show_search(line.number, line.validation)

    def _show_search(self, number: int, values: Mapping[str, float]) -> None:
        value = values[self._trial.config.metric]
        if self._watch is not None and not math.isnan(value):
            self._watch(number, value)
