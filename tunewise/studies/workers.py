"""The processes among which the work of a study is shared out, and how they stop together."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import torch

from tunewise.errors import TrainingError
from tunewise.runs.interrupts import on_stop_signals
from tunewise.runs.memo import Shared

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How often the progress of other processes is looked at."""

Tell = Callable[[Any], None]
"""Takes what a piece of work has to tell."""
Do = Callable[[Any, Shared, Tell], None]
"""Does a piece of work, with what it may share with others of its process."""
DoAll = Callable[[Sequence[Any]], None]


@contextmanager
def workers(jobs: int, do: Do, tell: Tell) -> Iterator[DoAll]:
    """Give a function that does all of some work: here, or in several processes.

    SIGINT and SIGTERM are passed on to those processes, whoever they have reached: each finishes
    its update, writes a checkpoint and begins nothing more.

    Args:
        do: a function of a module, and what it is given and tells can be pickled.

    Raises:
        TrainingError: if a process was killed.
    """
    if jobs == 1:
        shared = Shared()

        def one_by_one(works: Sequence[Any]) -> None:
            for work in works:
                do(work, shared, tell)

        yield one_by_one
        return
    context = multiprocessing.get_context("spawn")
    events: Any = context.SimpleQueue()
    threads = max(1, torch.get_num_threads() // jobs)
    arguments = (do, events, threads, os.getpid())
    with (
        on_stop_signals(_stop_all),
        ProcessPoolExecutor(jobs, context, _begin, arguments) as pool,
    ):

        def side_by_side(works: Sequence[Any]) -> None:
            futures: set[Future[None]] = {pool.submit(_do_here, work) for work in works}
            try:
                while futures:
                    done, futures = wait(futures, POLL_SECONDS, FIRST_COMPLETED)
                    while not events.empty():
                        tell(events.get())
                    for future in done:
                        future.result()
            except BrokenProcessPool as error:
                raise TrainingError(
                    "a process was killed, as happens where memory runs out; "
                    "--resume goes on, with fewer --jobs perhaps"
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

        yield side_by_side


def _stop_all(number: int, frame: Any) -> None:
    logger.warning("stopping each run after its update, with a checkpoint; once more stops at once")
    for process in multiprocessing.active_children():
        process.terminate()  # SIGTERM
    raise KeyboardInterrupt


class _Worker:
    """A process that works for another."""

    def __init__(self, do: Do, tell: Tell) -> None:
        self._do, self._tell = do, tell
        self._shared = Shared()
        self._is_busy = False
        self._is_to_stop = False

    def ask_to_stop(self, number: int, frame: Any) -> None:
        """Stop what is being done, and refuse what comes; a run that trains stops by itself."""
        is_first, self._is_to_stop = not self._is_to_stop, True
        if is_first and self._is_busy:
            raise KeyboardInterrupt

    def do(self, work: Any) -> None:
        """Do a piece of work. Another may wait in this process when it is asked to stop."""
        self._is_busy = True
        try:
            if self._is_to_stop:
                raise KeyboardInterrupt
            self._do(work, self._shared, self._tell)
        except KeyboardInterrupt:
            self._is_to_stop = True
            raise
        finally:
            self._is_busy = False


_here: _Worker
"""In a process that works for another."""


def _begin(do: Do, events: Any, threads: int, parent: int) -> None:
    global _here
    _here = _Worker(do, events.put)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _here.ask_to_stop)
    logging.getLogger("tunewise").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _do_here(work: Any) -> None:
    _here.do(work)


def _end_with(parent: int) -> None:
    """End this process when the one that it works for is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)
