"""How far a study is: what is planned, and a live table on a terminal or plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tunewise.metrics import METRICS
from tunewise.studies.plan import candidates_of, planned_seeds
from tunewise.studies.runner import Event, Tell
from tunewise.studies.study import Study


def show_plan(study: Study, folder: Path, console: Console) -> int:
    """Print the cells in their order with what is to be run and what is done; return the rest.

    The runs of a cell: one per candidate, then one per seed.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cell", overflow="fold")
    for column in ("candidates", "done", "seeds", "done"):
        table.add_column(column, justify="right")
    open_runs = total = 0
    for cell in study.cells():
        candidates = candidates_of(study, cell, folder)
        tried = sum(candidate.status in ("finished", "pruned") for candidate in candidates)
        finished = sum(planned.is_finished for planned in planned_seeds(study, cell, folder))
        table.add_row(Text(cell.name), *map(str, (len(candidates), tried, study.seeds, finished)))
        total += len(candidates) + study.seeds
        open_runs += len(candidates) - tried + study.seeds - finished
    console.print(table)
    done = total - open_runs
    console.print(f"{total} runs; {done} done, {open_runs} to do", highlight=False)
    return open_runs


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
