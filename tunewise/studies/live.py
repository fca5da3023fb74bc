"""The console of a study: a table of the runs to do, then progress bars or plain lines."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tunewise.data.rows import SPLITS
from tunewise.device import choose_device
from tunewise.errors import TunewiseError
from tunewise.estimate import estimate_run, format_duration
from tunewise.metrics import METRICS
from tunewise.runs.memo import Shared
from tunewise.runs.prepare import prepare
from tunewise.runs.result import Estimate
from tunewise.studies.events import Event, Notify
from tunewise.studies.study import Study
from tunewise.studies.trials import candidates_of, seeds_of


def show_plan(
    study: Study,
    folder: Path,
    data: Path | None,
    jobs: int,
    console: Console,
    shared: Shared | None = None,
) -> int:
    """Print the runs done and to do of each cell with their estimates, and return the number to do.

    Args:
        folder: the study's folder.
        data: the folder in which a named task's rows are searched.
        jobs: processes at once.
        shared: keeps what is read, such as rows.

    Returns:
        How many runs there are to do: of a cell, one per candidate, then one per seed.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cell", overflow="fold")
    for column in ("tried", "to try", "runs done", "runs to do", "memory", "a run"):
        table.add_column(column, justify="right")
    num_runs = num_left = peak_bytes = 0
    seconds, all_known = 0.0, True
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
        counts = map(str, (tried, to_try, done, to_do))
        table.add_row(Text(cell.name), *counts, memory, duration)
        num_runs += len(candidates) + study.seeds
        num_left += to_try + to_do
    console.print(table)
    line = f"{num_runs} runs; {num_runs - num_left} done, {num_left} to do"
    if num_left and all_known:
        line += f", in about {format_duration(seconds)}; {peak_bytes / 2**30:.1f} GiB"
        line += f" in each of {jobs} processes" if jobs > 1 else ""
    console.print(line, highlight=False)
    return num_left


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
def show_progress(study: Study, num_runs: int, console: Console) -> Iterator[Notify]:
    """Show the events of a study while the block lasts: running, best so far, time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield _ProgressDisplay(study, num_runs, console, bars)


class _ProgressDisplay:
    """A bar for each running trial and for the whole study, and a line for each that has ended."""

    def __init__(self, study: Study, num_runs: int, console: Console, bars: Progress) -> None:
        self._console = console
        self._bars = bars
        self._metric = METRICS[study.cells()[0].config.metric]
        self._all_runs = bars.add_task("all runs", total=num_runs, state="")
        self._num_runs = num_runs
        self._running: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._num_done = self._num_failed = 0
        self._best: tuple[float, str] | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.run not in self._running:
            self._running[event.run] = self._bars.add_task(escape(event.title), total=1.0, state="")
        self._bars.update(self._running[event.run], completed=event.share)
        self._shares[event.run] = event.share
        if event.ended:
            self._end(event)
        share = self._num_done + sum(self._shares.values())
        self._bars.update(self._all_runs, completed=share, state=self._state())

    def _end(self, event: Event) -> None:
        self._bars.remove_task(self._running.pop(event.run))
        del self._shares[event.run]
        self._num_done += 1
        if event.value is None:
            self._num_failed += 1
        if event.value is not None and (
            self._best is None or self._metric.better(event.value, than=self._best[0])
        ):
            self._best = event.value, event.title
        line = f"{self._num_done}/{self._num_runs}  {event.title}: {event.ended}"
        self._console.print(
            f"{line}  ({event.seconds:.1f} s)", highlight=False, soft_wrap=True, markup=False
        )

    def _state(self) -> str:
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        best = "" if self._best is None else f", best {self._best[1]} {self._best[0]:.4f}"
        return f"{self._num_done} of {self._num_runs} done{failed}{best}"
