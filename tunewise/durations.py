"""Durations: the time that is left, and times as text."""

import time
from collections.abc import Callable


class TimeLeft:
    """Expects the time that is left from the time that was taken.

    Args:
        share: the share of the work that was done before, from 0 to 1.
    """

    def __init__(self, share: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._before, self._clock, self._started = share, clock, clock()

    @property
    def elapsed(self) -> float:
        """The seconds since the beginning."""
        return self._clock() - self._started

    def after(self, share: float) -> float | None:
        """Return the seconds that are left when a share is done; None if nothing was done yet."""
        done = share - self._before
        return None if done <= 0 else self.elapsed * max(0.0, 1 - share) / done


def format_duration(seconds: float) -> str:
    """Return a time as text: `12 s`, `5 min` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def format_left(seconds: float | None) -> str:
    """Return ", about 5 min left"; nothing if it is not known."""
    return "" if seconds is None else f", about {format_duration(seconds)} left"
