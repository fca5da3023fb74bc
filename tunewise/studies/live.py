"""The console of a study: a table of the runs to do, then progress bars or plain lines."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tunewise.data.rows import SPLITS
from tunewise.device import choose_device
from tunewise.durations import TimeLeft, format_duration, format_left
from tunewise.errors import TunewiseError
from tunewise.estimate import estimate_run
from tunewise.metrics import METRICS
from tunewise.runs.memo import Shared
from tunewise.runs.prepare import prepare
from tunewise.runs.progress import print_line
from tunewise.runs.result import Estimate
from tunewise.studies.events import Event, Notify
from tunewise.studies.study import Study
from tunewise.studies.trials import candidates_of, seeds_of
from tunewise.terminal import visible

UNLIKE = 1.25
"""Ratio of times from which a study took another time than was expected."""


class Plan(NamedTuple):
    """The runs that a study still has to do."""

    num_runs: int
    """Their number."""
    weights: dict[str, float]
    """The expected seconds of a run, by cell; 1 each if they are not known of all cells."""
    num_left: dict[str, int]
    """Number of runs to do, by cell."""
    seconds: float | None
    """The time that is expected for all, if it is known."""

    def weight_of(self, title: str) -> float:
        """Return the weight of the run with a title, which begins with the name of its cell."""
        cells = [name for name in self.weights if title == name or title.startswith(f"{name}, ")]
        return self.weights[max(cells, key=len)] if cells else 1.0

    @property
    def whole(self) -> float:
        """The weight of all runs together."""
        return sum(self.num_left[name] * weight for name, weight in self.weights.items())


def show_plan(
    study: Study,
    folder: Path,
    data: Path | None,
    jobs: int,
    console: Console,
    shared: Shared | None = None,
) -> Plan:
    """Print the runs done and to do of each cell with their estimates, and return what is to do.

    Args:
        folder: the study's folder.
        data: the folder in which a named task's rows are searched.
        jobs: processes at once.
        shared: keeps what is read, such as rows.

    Returns:
        The runs that are to do: of a cell, one per candidate, then one per seed.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cell", overflow="fold")
    for column in ("tried", "to try", "runs done", "runs to do", "memory", "a run"):
        table.add_column(column, justify="right")
    num_runs = num_left = peak_bytes = 0
    seconds, all_known = 0.0, True
    to_do_of: dict[str, int] = {}
    expected = estimate_cells(study, folder, data, jobs, shared or Shared())
    for cell in study.cells():
        candidates = candidates_of(study, cell, folder)
        tried = sum(trial.status in ("finished", "pruned") for trial in candidates)
        done = sum(trial.status == "finished" for trial in seeds_of(study, cell, folder))
        to_try, to_do = len(candidates) - tried, study.seeds - done
        estimate = expected.get(cell.name)
        if estimate is not None:
            memory = f"{estimate.peak_bytes / 2**30:.2f} GiB"
            duration = format_duration(estimate.seconds)
            peak_bytes = max(peak_bytes, estimate.peak_bytes)
            seconds += (to_try + to_do) * estimate.seconds / jobs
        else:
            memory = duration = ""
            all_known = all_known and to_try + to_do == 0
        to_do_of[cell.name] = to_try + to_do
        counts = map(str, (tried, to_try, done, to_do))
        table.add_row(Text(visible(cell.name)), *counts, memory, duration)
        num_runs += len(candidates) + study.seeds
        num_left += to_try + to_do
    console.print(table)
    line = f"{num_runs} runs; {num_runs - num_left} done, {num_left} to do"
    if num_left and all_known:
        line += f", in about {format_duration(seconds)}; {peak_bytes / 2**30:.1f} GiB"
        line += f" in each of {jobs} processes" if jobs > 1 else ""
    console.print(line, highlight=False)
    known = {name: estimate.seconds for name, estimate in expected.items()}
    weights = {name: known.get(name, 0.0) if all_known else 1.0 for name in to_do_of}
    return Plan(num_left, weights, to_do_of, seconds if all_known else None)


def estimate_cells(
    study: Study, folder: Path, data: Path | None, jobs: int, shared: Shared
) -> dict[str, Estimate]:
    """Return the estimate of one run, for each cell that has not finished.

    A cell that cannot be run is left out: its runs will report why.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // jobs))  # as many as a run will have
    estimates = {}
    for cell in study.cells():
        seeds = seeds_of(study, cell, folder)
        if seeds and all(trial.status == "finished" for trial in seeds):
            continue
        with suppress(TunewiseError):
            prepared = prepare(cell.config, data, choose_device(), shared, SPLITS)
            estimates[cell.name] = estimate_run(prepared, shared)
    torch.set_num_threads(threads)
    return estimates


@contextmanager
def show_progress(study: Study, plan: Plan, console: Console) -> Iterator[Notify]:
    """Show the events of a study while the block lasts: running, best so far, time left.

    The time that is left is expected from the time that was taken: at the end it is said if all
    took much longer or shorter than was expected at the beginning.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        display = _ProgressDisplay(study, plan, console, bars)
        yield display
    display.say_time()


class _ProgressDisplay:
    """A bar for each running trial and for the whole study, and a line for each that has ended."""

    def __init__(self, study: Study, plan: Plan, console: Console, bars: Progress) -> None:
        self._console = console
        self._bars = bars
        self._metric = METRICS[study.cells()[0].config.metric]
        self._all_runs = bars.add_task("all runs", total=plan.whole, state="")
        self._plan, self._left = plan, TimeLeft()
        self._done = 0.0
        self._running: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._num_done = self._num_failed = 0
        self._best: tuple[float, str] | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.run not in self._running:
            self._weights[event.run] = self._plan.weight_of(event.title)
            self._running[event.run] = self._bars.add_task(
                escape(visible(event.title)), total=1.0, state=""
            )
        self._bars.update(self._running[event.run], completed=event.share)
        self._shares[event.run] = event.share
        if event.ended:
            self._end(event)
        self._bars.update(self._all_runs, completed=self._weight_done(), state=self._state())

    def _weight_done(self) -> float:
        """Return the weight of what has been done, of running trials in part."""
        running = (self._weights[run] * share for run, share in self._shares.items())
        return self._done + sum(running)

    def _end(self, event: Event) -> None:
        self._bars.remove_task(self._running.pop(event.run))
        del self._shares[event.run]
        self._done += self._weights[event.run]
        self._num_done += 1
        if event.value is None:
            self._num_failed += 1
        if event.value is not None and (
            self._best is None or self._metric.better(event.value, than=self._best[0])
        ):
            self._best = event.value, event.title
        left = ""
        if self._num_done < self._plan.num_runs and self._plan.whole:
            left = format_left(self._left.after(self._weight_done() / self._plan.whole))
        line = f"{self._num_done}/{self._plan.num_runs}  {event.title}: {event.ended}"
        self._print(f"{line}  ({event.seconds:.1f} s{left})")

    def say_time(self) -> None:
        """Say how long all took, if that is not what was expected."""
        expected, taken = self._plan.seconds, self._left.elapsed
        if not expected or self._num_done < self._plan.num_runs:
            return
        if not 1 / UNLIKE < taken / expected < UNLIKE:
            told = f"{format_duration(taken)} taken; {format_duration(expected)} were expected"
            self._print(told)

    def _print(self, line: str) -> None:
        print_line(self._console, line)

    def _state(self) -> str:
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        best = "" if self._best is None else f", best {self._best[1]} {self._best[0]:.4f}"
        best = escape(visible(best))
        return f"{self._num_done} of {self._plan.num_runs} done{failed}{best}"
