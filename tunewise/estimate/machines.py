"""How fast machines are: this one by a short calibration, some GPUs by their data sheets."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import torch

from tunewise.device import choose_device, describe, total_bytes
from tunewise.estimate.rehearsal import Operation

ROWS, IN, OUT = 512, 768, 3072
"""The product that is timed: 512 tokens through the widest layer of GPT-2."""
MANY, FEW = 2**23, 2**4
"""Numbers added to measure memory, and to measure what an operation costs by itself."""


@dataclass(frozen=True)
class Machine:
    """What bounds an operation: arithmetic, memory traffic, or being called at all."""

    name: str
    memory_bytes: int
    fp32_flops: float
    """A second, in matrix products."""
    bf16_flops: float | None
    """None where bf16 is not computed natively, and fp32 is used instead."""
    bytes_per_second: float
    operation_seconds: float
    """What calling an operation costs."""

    def seconds(self, operations: Iterable[Operation]) -> float:
        """Return how long operations take, each by its nearest bound (the roofline model)."""
        total = 0.0
        for operation in operations:
            fast = self.bf16_flops if operation.dtype == torch.bfloat16 else None
            arithmetic = operation.num_flops / (fast or self.fp32_flops)
            traffic = operation.num_bytes / self.bytes_per_second
            total += max(arithmetic, traffic, self.operation_seconds)
        return total


GIB = 2**30
SHARE = 0.5
"""Of a data sheet's arithmetic and memory traffic, what such work is taken to reach."""
CALL = 1e-5
"""Seconds that PyTorch takes to begin an operation on a GPU."""


def _gpu(name: str, gib: int, fp32: float, bf16: float | None, traffic: float) -> Machine:
    """Return a GPU from its data sheet.

    Args:
        fp32: TFLOP/s without tensor cores, which PyTorch does not use in fp32 unless it is told to.
        bf16: TFLOP/s of the tensor cores, without sparsity.
        traffic: GB/s.
    """
    half = None if bf16 is None else SHARE * bf16 * 1e12
    return Machine(name, gib * GIB, SHARE * fp32 * 1e12, half, SHARE * traffic * 1e9, CALL)


GPUS = (
    _gpu("T4", 16, 8.1, None, 320),
    _gpu("L4", 24, 30.3, 121, 300),
    _gpu("A10", 24, 31.2, 125, 600),
    _gpu("A100-40", 40, 19.5, 312, 1555),
    _gpu("A100-80", 80, 19.5, 312, 2039),
    _gpu("H100", 80, 67, 989, 3350),
    _gpu("H200", 141, 67, 989, 4800),
)
"""NVIDIA's data sheets; the figures of the SXM modules, where there are such. None was measured."""


@cache
def this_machine() -> Machine:
    """Return the machine that runs this, measured: a tenth of a second on a processor."""
    device = choose_device()

    def product(dtype: torch.dtype) -> float:
        x = torch.ones(ROWS, IN, dtype=dtype, device=device)
        weight = torch.ones(OUT, IN, dtype=dtype, device=device)
        return 2 * ROWS * IN * OUT / _best(lambda: torch.nn.functional.linear(x, weight))

    many, few = (torch.ones(size, device=device) for size in (MANY, FEW))
    return Machine(
        name=describe(device),
        memory_bytes=total_bytes(device),
        fp32_flops=product(torch.float32),
        bf16_flops=product(torch.bfloat16),
        bytes_per_second=2 * many.nbytes / _best(lambda: many.add_(1)),
        operation_seconds=_best(lambda: few + 1),
    )


def _best(work: Callable[[], object], times: int = 5) -> float:
    """Return the seconds of the fastest of some tries, the first not counted."""
    seconds = []
    for _ in range(1 + times):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
