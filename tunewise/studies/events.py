"""Events: the progress that the runs of a study report, and the type of their receiver."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """The progress of a run, or its end."""

    run: str
    """Name of the run's folder."""
    title: str
    share: float
    """Share of its updates that are done, from 0 to 1."""
    seconds: float
    """Time since it was started or resumed."""
    ended: str = ""
    """The value or the error of the run in a few words, once it has ended."""
    value: float | None = None
    """Best validation value, once it has finished."""


Notify = Callable[[Event], None]
