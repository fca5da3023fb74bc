"""Thousands of broken files, made from sound ones: each is read, or refused in one line, soon.

What is tried depends on its kind and number alone, so that a failure can be had again. `make
nightly` tries 5,000 inputs in all and `make torture` 50,000; without them there are some 1,000.
"""

import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunewise.errors import TunewiseError

NUM_INPUTS = int(os.environ.get("TUNEWISE_FUZZ", "1000"))
SECONDS = 5.0
"""Seconds allowed for one input; the slowest takes a tenth of it on an idle machine."""
MEMORY = 2**30
"""Bytes of address space that one kind of input may need more than there was."""

Broken = Callable[[random.Random, Path], None]
"""Writes one broken input into an empty folder."""
Read = Callable[[Path, random.Random], object]


@contextmanager
def bounded() -> Iterator[None]:
    """Let the block have a little more memory than there is."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def stop(*_: Any) -> None:
    raise TimeoutError(f"took more than {SECONDS} s")


def fuzz(kind: str, share: float, folder: Path, broken: Broken, read: Read) -> None:
    """Read broken inputs; any end but success and one line of a TunewiseError fails."""
    failures, num_refused = [], 0
    count = round(NUM_INPUTS * share)
    before = signal.signal(signal.SIGALRM, stop)
    with bounded():
        for number in range(count):
            chance = random.Random(f"{kind} {number}")
            place = folder / "input"
            place.mkdir()
            broken(chance, place)
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                read(place, chance)
            except TunewiseError as error:
                num_refused += 1
                message = str(error)
                if "\n" in message or not message.isprintable() or not 5 < len(message) < 2500:
                    failures.append(f"{number}: message {message!r}")
            except BaseException as error:  # a panic of Rust code is none of Exception's
                signal.setitimer(signal.ITIMER_REAL, 0)
                failures.append(f"{number}: {type(error).__name__}: {error!s:.200}")
                if os.environ.get("TUNEWISE_FUZZ_RAISE"):
                    raise
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            SLOWEST[kind] = max(SLOWEST.get(kind, 0.0), time.perf_counter() - start)
            shutil.rmtree(place)
    signal.signal(signal.SIGALRM, before)
    print(f"{kind}: {count} inputs, {num_refused} refused, slowest {SLOWEST[kind]:.3f} s")
    assert not failures, f"{len(failures)} of {count}:\n" + "\n".join(failures[:20])
    assert num_refused > count / 20  # or the inputs are not broken at all


SLOWEST: dict[str, float] = {}
