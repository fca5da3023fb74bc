"""Tally: slow loops deep inside tell how much they have done, to whoever listens.

Nobody listens unless asked, so that a library is silent, and no function has to pass a listener on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

What = Literal["rows scored", "texts written"]
Listener = Callable[[What, int], None]
"""Takes what was done, and how many more of it."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tell_done(what: What, count: int) -> None:
    """Tell that so many more are done."""
    if (listener := _listener.get()) is not None:
        listener(what, count)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let a function hear what is done while the block lasts, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
