"""What all workers share: the work they read, the time they keep, the figures they print.

A worker is a fresh process for one side and one round, so that neither side inherits the other's
memory, threads or warm caches: `python -m benchmarks.ours WORK.json`.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tunewise.device import choose_device

KIB = 1024


@dataclass(frozen=True)
class Row:
    """The ids of a text, and its label if that is what is learnt."""

    ids: list[int]
    label: int | None = None


@dataclass(frozen=True)
class Work:
    """What a worker has to do: one configuration, read by every side."""

    kind: str
    config: dict[str, Any]
    """A tunewise RunConfig; its `model` is the folder of weights."""
    rows: list[Row]
    updates: list[list[int]]
    """The rows of each update, in tunewise's order."""
    warm_up: int
    new_tokens: int
    threads: int
    end_of_text: int
    data: str
    """The data folder, for a side that reads its own rows."""
    initial: str
    """Trainable tensors before the first update, by tunewise's names."""
    peer_weights: str
    """The precision of the peer's frozen weights where it computes in bf16."""

    @property
    def dtype(self) -> torch.dtype:
        """The compute precision."""
        return torch.bfloat16 if self.config["train"]["precision"] == "bf16" else torch.float32


@dataclass(frozen=True)
class Measured:
    """What a worker found."""

    seconds: list[float]
    """Of each timed update; of the whole, for a run or for writing."""
    processor: list[float]
    """Processor seconds of the same, over all threads: what other programs hardly change."""
    losses: list[float] = field(default_factory=list)
    outputs: list[list[int]] = field(default_factory=list)
    peak_bytes: int = 0


class Clock:
    """Seconds and processor seconds from lap to lap, taken when the device has finished."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.start()

    def start(self) -> None:
        """Forget all laps; the next begins now."""
        self._synchronize()
        self.laps: list[float] = []
        self.processor: list[float] = []
        self._last, self._last_processor = time.perf_counter(), time.process_time()

    def lap(self) -> None:
        """End a lap."""
        self._synchronize()
        now, processor = time.perf_counter(), time.process_time()
        self.laps.append(now - self._last)
        self.processor.append(processor - self._last_processor)
        self._last, self._last_processor = now, processor

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def peak_bytes(device: torch.device) -> int:
    """Return the most memory held: by the allocator on a GPU, else by the process (VmHWM).

    The highest mark that getrusage gives would do, but it starts from that of the parent process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return KIB * int(line.split()[1])
    raise AssertionError("VmHWM is not in /proc/self/status")


def read_work(path: Path) -> Work:
    """Return the work in a file."""
    values = json.loads(path.read_text("utf-8"))
    return Work(**values | {"rows": [Row(**row) for row in values["rows"]]})


def main(by_kind: dict[str, Callable[[Work], Measured]]) -> None:
    """Do the work named on the command line and print what was measured, as JSON."""
    work = read_work(Path(sys.argv[1]))
    torch.set_num_threads(work.threads)
    torch.manual_seed(work.config["seed"])
    measured = by_kind[work.kind](work)
    print(json.dumps(asdict(measured) | {"peak_bytes": peak_bytes(choose_device())}))
