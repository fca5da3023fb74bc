"""A run that is asked to stop finishes its update and writes a checkpoint first."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Give a list that is empty until SIGINT or SIGTERM asks to stop; the second stops at once.

    Outside the main thread, where signals cannot be caught, it stays empty.
    """
    requested: list[int] = []

    def ask(number: int, _: Any) -> None:
        if requested:
            raise KeyboardInterrupt
        requested.append(number)
        logger.warning("stopping after this update, with a checkpoint; once more stops at once")

    with on_stop_signals(ask):
        yield requested


@contextmanager
def on_stop_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call a function.

    Outside the main thread, where signals cannot be caught, they do what they did.
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
