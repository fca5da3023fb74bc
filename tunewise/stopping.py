"""A run that is asked to stop finishes its update and writes a checkpoint first."""

import logging
import signal
import threading
from collections.abc import Iterator
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

    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
