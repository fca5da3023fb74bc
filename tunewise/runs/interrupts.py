"""Requests to stop, by Ctrl-C or a signal: a run ends its update and saves a checkpoint first."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

ONE_REQUEST_SECONDS = 1.0
"""Signals within this time of the first belong to it: terminals and schedulers signal every
process of a group, and these signal each other."""


_received: list[int] = []
"""The signals that have asked this process to stop."""


def end_on_sigterm() -> None:
    """Let SIGTERM end a command as Ctrl-C does, by a KeyboardInterrupt, wherever it is."""
    _received.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def interrupt(number: int, _: Any) -> None:
    """Raise KeyboardInterrupt, and remember the signal."""
    remember(number)
    raise KeyboardInterrupt


def remember(number: int) -> None:
    """Remember a signal that has asked to stop."""
    _received.append(number)


def exit_code() -> int:
    """Return the exit code after a stop: 143 if SIGTERM asked first, else 130."""
    return 128 + (_received[0] if _received else signal.SIGINT)


@contextmanager
def stop_requests() -> Iterator[list[float]]:
    """Yield a list that is empty until SIGINT or SIGTERM asks to stop; a second one stops at once.

    Outside the main thread, where signals cannot be caught, it stays empty.
    """
    requested: list[float] = []

    def ask(number: int, _: Any) -> None:
        now = time.monotonic()
        remember(number)
        if requested:
            if now - requested[0] > ONE_REQUEST_SECONDS:
                raise KeyboardInterrupt
            return
        requested.append(now)
        logger.warning("stopping after this update, with a checkpoint; once more stops at once")

    with on_stop_signals(ask):
        yield requested


@contextmanager
def on_stop_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM call `handler` while the block lasts.

    Outside the main thread, where signals cannot be caught, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
