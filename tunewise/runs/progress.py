"""Progress: a live bar on a terminal, plain lines elsewhere, nothing in a library."""

import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

from tunewise.data.rows import Split
from tunewise.durations import TimeLeft, format_left
from tunewise.tally import What, listening
from tunewise.terminal import visible
from tunewise.training.loop import Step

NUM_LINES = 10
"""Number of plain lines that a run prints, beside one per evaluation."""
SECONDS_BETWEEN = 10.0
"""Least time between two plain lines of a counter."""
COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)


Show = Callable[[str, int, int | None], None]
"""Shows what is counted, how many of it are done, and how many there will be, if that is known."""


class Progress:
    """Shows updates and evaluations as they come; without a console, nothing."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._total = 0
        self._left: TimeLeft | None = None

    @contextmanager
    def in_folder(self, folder: Path) -> Iterator[None]:
        """Say how to go on with the run in a folder if the block is interrupted."""
        try:
            yield
        except KeyboardInterrupt:
            if self._console is not None and not self._console.quiet:
                tell_how_to_go_on(["run", "--out", str(folder), "--resume"])
            raise

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show on a terminal that something is being done that has no number, such as reading."""
        with show_work(what, self._console):
            yield

    def begins(self, lines: Sequence[str]) -> None:
        """Show what is trained, on what."""
        for line in lines:
            self._print(line)

    @contextmanager
    def updates(self, total: int) -> Iterator[None]:
        """Show the progress of `total` updates while the block lasts."""
        self._total = total
        if self._console is None or not self._console.is_terminal:
            yield
            return
        with Bar(*COLUMNS, console=self._console) as self._bar:
            self._task = self._bar.add_task("training", total=total)
            yield
        self._bar = None

    def step(self, step: Step) -> None:
        """Show an update."""
        text = f"loss {step.loss:.3f}  rate {step.learning_rate:.1e}"
        if self._left is None:  # timed from the end of the first; a resumed run has made others
            self._left = TimeLeft(step.number / self._total)
        if self._bar is not None:
            self._bar.update(self._task, completed=step.number, description=text)
        elif self._console is not None and step.number % max(1, self._total // NUM_LINES) == 0:
            speed = step.num_tokens / step.seconds
            left = format_left(self._left.after(step.number / self._total))
            line = f"update {step.number}/{self._total}  {text}  {speed:,.0f} tokens/s{left}"
            self._print(line)

    @contextmanager
    def evaluating(self, split: Split, total: int) -> Iterator[None]:
        """Show how many of `total` rows of a split are done while the block lasts."""
        if self._console is None:
            yield
            return
        done: Counter[What] = Counter()
        with counting(self._console, self._bar) as show:

            def hear(what: What, count: int) -> None:
                done[what] += count
                show(f"{split}: {what}", done[what], total)

            with listening(hear):
                yield

    def evaluated(self, step: Step, values: Mapping[str, float], is_best: bool) -> None:
        """Show an evaluation on validation data."""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        mark = "  (best so far)" if is_best else ""
        self._print(f"epoch {step.epoch}, update {step.number}: validation {shown}{mark}")

    def _print(self, line: str) -> None:
        if self._console is not None:
            print_line(self._console, line)


def print_line(console: Console, line: str) -> None:
    """Print a line as it is: nothing in it is markup, and a terminal obeys nothing in it."""
    console.print(visible(line), highlight=False, soft_wrap=True, markup=False)


def tell_how_to_go_on(words: Sequence[str]) -> None:
    """Print the command that goes on with what was interrupted, on standard error."""
    print(f"to go on: {shlex.join(['tunewise', *words])}", file=sys.stderr)


@contextmanager
def counting(console: Console, bar: Bar | None = None) -> Iterator[Show]:
    """Yield a function that shows how many of some things are done, while the block lasts.

    On a terminal it moves a bar, elsewhere it prints a line now and then.

    Args:
        bar: the bars that are on the terminal already, to which others are added.
    """
    if console.quiet:
        yield lambda what, done, total: None
    elif not console.is_terminal:
        yield Lines(console).show
    elif bar is not None:
        bars = _Bars(bar)
        yield bars.show
        bars.remove()
    else:
        with Bar(*COLUMNS, console=console, transient=True) as own:
            yield _Bars(own).show


@contextmanager
def show_work(what: str, console: Console | None) -> Iterator[None]:
    """Show on a terminal that something is being done, while the block lasts."""
    if console is None or console.quiet or not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


class Lines:
    """Lines that say how many things are done, and how long the others will take."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._left: dict[str, TimeLeft] = {}
        self._last = clock()

    def show(self, what: str, done: int, total: int | None) -> None:
        """Print a line unless another was printed a moment ago."""
        if what not in self._left:
            self._left[what] = TimeLeft(clock=self._clock)
        if self._clock() - self._last < SECONDS_BETWEEN or done == total:
            return
        self._last = self._clock()
        of_all = "" if total is None else f"/{total:,}"
        left = None if not total else self._left[what].after(done / total)
        print_line(self._console, f"{what} {done:,}{of_all}{format_left(left)}")


class _Bars:
    """A bar for each kind of things that are counted."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, done: int, total: int | None) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)

    def remove(self) -> None:
        for task in self._tasks.values():
            self._bar.remove_task(task)
