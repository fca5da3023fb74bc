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


@contextmanager
def stop_requests() -> Iterator[list[float]]:
    """Yield a list that is empty until SIGINT or SIGTERM asks to stop; a second one stops at once.

    Outside the main thread, where signals cannot be caught, it stays empty.
    """
    requested: list[float] = []

    def ask(number: int, _: Any) -> None:
        now = time.monotonic()
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
