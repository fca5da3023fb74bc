"""How far a study is: what is planned, and a live table on a terminal or plain lines elsewhere."""

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
from tunewise.estimate import clock, estimate_run
from tunewise.metrics import METRICS
from tunewise.runs.memo import Shared
from tunewise.runs.prepare import prepare
from tunewise.runs.result import Estimate
from tunewise.studies.runner import Event, Tell
from tunewise.studies.study import Study
from tunewise.studies.trials import candidates_of, planned_seeds


def show_plan(study: Study, folder: Path, data: Path | None, jobs: int, console: Console) -> int:
    """Print the cells in their order: what is to be run, what is done, what it is expected to take.

    Args:
        data: the folder in which a named task's rows are searched.
        jobs: processes at once.

    Returns:
        How many runs there are to do: of a cell, one per candidate, then one per seed.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cell", overflow="fold")
    for column in ("candidates", "done", "seeds", "done", "memory", "a run"):
        table.add_column(column, justify="right")
    open_runs = total = peak_bytes = 0
    seconds, all_known = 0.0, True
    expected = expectations(study, folder, data, jobs)
    for cell in study.cells():
        candidates = candidates_of(study, cell, folder)
        tried = sum(candidate.status in ("finished", "pruned") for candidate in candidates)
        finished = sum(planned.is_finished for planned in planned_seeds(study, cell, folder))
        left = len(candidates) - tried + study.seeds - finished
        counts = map(str, (len(candidates), tried, study.seeds, finished))
        of_cell = expected.get(cell.name)
        if of_cell is not None:
            shown = f"{of_cell.peak_bytes / 2**30:.2f} GiB", clock(of_cell.seconds)
            peak_bytes = max(peak_bytes, of_cell.peak_bytes)
            seconds += left * of_cell.seconds / jobs
        else:
            shown = "", ""
            all_known = all_known and not left
        table.add_row(Text(cell.name), *counts, *shown)
        total += len(candidates) + study.seeds
        open_runs += left
    console.print(table)
    line = f"{total} runs; {total - open_runs} done, {open_runs} to do"
    if open_runs and all_known:
        line += f", in about {clock(seconds)}; {peak_bytes / 2**30:.1f} GiB"
        line += f" in each of {jobs} processes" if jobs > 1 else ""
    console.print(line, highlight=False)
    return open_runs


def expectations(study: Study, folder: Path, data: Path | None, jobs: int) -> dict[str, Estimate]:
    """Return what a run of each cell that is not done is expected to take.

    A cell that cannot be run has none: its runs will say why.
    """
    shared, threads = Shared(), torch.get_num_threads()
    torch.set_num_threads(max(1, threads // jobs))  # as many as a run will have
    found = {}
    for cell in study.cells():
        seeds = planned_seeds(study, cell, folder)
        if len(seeds) == study.seeds and all(planned.is_finished for planned in seeds):
            continue
        with suppress(TunewiseError):
            prepared = prepare(cell.config, data, choose_device(), shared, SPLITS)
            found[cell.name] = estimate_run(prepared, shared)
    torch.set_num_threads(threads)
    return found


@contextmanager
def shown(study: Study, num_runs: int, console: Console) -> Iterator[Tell]:
    """Show a study's runs while the block lasts: those running, the best so far, the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield _Shown(study, num_runs, console, bars)


class _Shown:
    """Shows events."""

    def __init__(self, study: Study, num_runs: int, console: Console, bars: Progress) -> None:
        self._console = console
        self._bars = bars
        self._metric = METRICS[study.cells()[0].config.metric]
        self._whole = bars.add_task("all runs", total=num_runs, state="")
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
        self._bars.update(self._whole, completed=share, state=self._state())

    def _end(self, event: Event) -> None:
        self._bars.remove_task(self._running.pop(event.run))
        del self._shares[event.run]
        self._num_done += 1
        self._num_failed += event.value is None
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
