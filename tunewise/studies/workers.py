"""Worker processes of a study: they do its work, and stop together."""

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
from tunewise.runs.interrupts import on_stop_signals, remember
from tunewise.runs.memo import Shared
from tunewise.studies.events import Notify

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Time between two checks of the events of other processes."""

WorkItem = Callable[[Shared, Notify], object]
"""A piece of work. It is called with the memory that the work of its process shares, and with the
receiver of its events. To reach another process it must be picklable: a `functools.partial`
of a module's function."""
DoAll = Callable[[Sequence[WorkItem]], None]


@contextmanager
def workers(jobs: int, notify: Notify, shared: Shared) -> Iterator[DoAll]:
    """Yield a function that does several pieces of work: in this process, or in `jobs` others.

    SIGINT and SIGTERM are passed on to the other processes. Each finishes its update, writes a
    checkpoint and starts nothing more.

    Args:
        shared: what the work in this process shares.

    Raises:
        TrainingError: if a process was killed.
    """
    if jobs == 1:

        def do_one_by_one(pieces: Sequence[WorkItem]) -> None:
            for work in pieces:
                work(shared, notify)

        yield do_one_by_one
        return
    context = multiprocessing.get_context("spawn")
    events: Any = context.SimpleQueue()
    threads = max(1, torch.get_num_threads() // jobs)
    arguments = (events, threads, os.getpid())
    with (
        on_stop_signals(_stop_all),
        ProcessPoolExecutor(jobs, context, _start_worker, arguments) as pool,
    ):

        def do_side_by_side(pieces: Sequence[WorkItem]) -> None:
            futures: set[Future[None]] = {pool.submit(_do_in_worker, work) for work in pieces}
            try:
                while futures:
                    done, futures = wait(futures, POLL_SECONDS, FIRST_COMPLETED)
                    while not events.empty():
                        notify(events.get())
                    for future in done:
                        future.result()
            except BrokenProcessPool as error:
                raise TrainingError(
                    "a process was killed, probably because memory ran out; continue with "
                    "--resume and fewer --jobs"
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

        yield do_side_by_side


def _stop_all(number: int, frame: Any) -> None:
    remember(number)
    logger.warning("stopping each run after its update, with a checkpoint; once more stops at once")
    for process in multiprocessing.active_children():
        process.terminate()  # SIGTERM
    raise KeyboardInterrupt


class _Worker:
    """The part of a worker process that does one piece of work at a time, until asked to stop."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._shared = Shared()
        self._is_busy = False
        self._is_to_stop = False

    def ask_to_stop(self, number: int, frame: Any) -> None:
        """Interrupt the work that is being done, and refuse any other."""
        is_first, self._is_to_stop = not self._is_to_stop, True
        if is_first and self._is_busy:
            raise KeyboardInterrupt

    def do(self, work: WorkItem) -> None:
        """Do a piece of work, unless this process was asked to stop while the work was waiting."""
        self._is_busy = True
        try:
            if self._is_to_stop:
                raise KeyboardInterrupt
            work(self._shared, self._notify)
        except KeyboardInterrupt:
            self._is_to_stop = True
            raise
        finally:
            self._is_busy = False


_worker: _Worker
"""Set in a worker process only."""


def _start_worker(events: Any, threads: int, parent: int) -> None:
    global _worker
    _worker = _Worker(events.put)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _worker.ask_to_stop)
    logging.getLogger("tunewise").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()


def _do_in_worker(work: WorkItem) -> None:
    _worker.do(work)


def _exit_with_parent(parent: int) -> None:
    """End this process once its parent process has ended."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)
