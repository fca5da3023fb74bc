"""Progress of a run: a live bar on a terminal, plain lines elsewhere, nothing in a library."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

from tunewise.training.loop import Step

NUM_LINES = 10
"""Number of plain lines that a run prints, beside one per evaluation."""


class Progress:
    """Shows updates and evaluations as they come; without a console, nothing."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._total = 0

    @contextmanager
    def in_folder(self, folder: Path) -> Iterator[None]:
        """Say how to go on with the run in a folder if the block is interrupted."""
        try:
            yield
        except KeyboardInterrupt:
            if self._console is not None and not self._console.quiet:
                tell_how_to_go_on(["run", "--out", str(folder), "--resume"])
            raise

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
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=self._console) as self._bar:
            self._task = self._bar.add_task("training", total=total)
            yield
        self._bar = None

    def step(self, step: Step) -> None:
        """Show an update."""
        text = f"loss {step.loss:.3f}  rate {step.learning_rate:.1e}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step.number, description=text)
        elif self._console is not None and step.number % max(1, self._total // NUM_LINES) == 0:
            speed = step.num_tokens / step.seconds
            self._print(f"update {step.number}/{self._total}  {text}  {speed:,.0f} tokens/s")

    def evaluated(self, step: Step, values: Mapping[str, float], is_best: bool) -> None:
        """Show an evaluation on validation data."""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        mark = "  (best so far)" if is_best else ""
        self._print(f"epoch {step.epoch}, update {step.number}: validation {shown}{mark}")

    def _print(self, line: str) -> None:
        if self._console is not None:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)


def tell_how_to_go_on(words: Sequence[str]) -> None:
    """Print the command that goes on with what was interrupted, on standard error."""
    print(f"to go on: {shlex.join(['tunewise', *words])}", file=sys.stderr)


@contextmanager
def progress_counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how many things are done, while the block lasts.

    Yields a function to call with how many are done, and how many there will be.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
