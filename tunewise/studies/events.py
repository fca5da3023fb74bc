"""Events: what the runs of a study report while they last, and what takes them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """How far a run is, or how it ended."""

    run: str
    """Name of the run's folder."""
    title: str
    share: float
    """Share of its updates that are done, from 0 to 1."""
    seconds: float
    """Time since it was started or resumed."""
    ended: str = ""
    """Its value or its error in a few words, once it has ended."""
    value: float | None = None
    """Best validation value, once it has finished."""


Notify = Callable[[Event], None]
