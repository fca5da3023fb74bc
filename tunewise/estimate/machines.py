"""The speed of machines: this one from a short calibration, some GPUs from their data sheets.

Asking for an estimate trains a small model, even if this machine's speed is in the cache: PyTorch's
code takes 23 MiB of memory once a process has made an update. A run will hold that memory too, so
it must be there before `count_memory` reads what the process holds.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache

import numpy as np
import torch

from tunewise.data.encode import Encoded
from tunewise.device import choose_device, choose_dtype, describe
from tunewise.estimate.rehearsal import Operation, Rehearsal
from tunewise.files import cache_folder, writing_to_cache
from tunewise.json_text import to_json
from tunewise.memory import GIB, total_bytes
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.language_model import initialise
from tunewise.training.config import TrainConfig
from tunewise.training.loop import Step, train

NUM_TOKENS, IN_DIM, OUT_DIM = 512, 768, 3072
"""Size of the product that is timed: 512 tokens through the widest layer of GPT-2."""
NUM_SEQUENCES = 8
"""Sequences in each update that is timed, all of different lengths."""
CALIBRATION_SIZES = 2**23, 2**4
"""Sizes of the tensors that are added: a large one for memory traffic, and a small one for the cost
of calling an operation."""
MAX_AGE_SECONDS = 3600
"""Age from which a cached measurement is repeated: other programs may have started or ended."""


@dataclass(frozen=True)
class Machine:
    """The bounds on the speed of operations: arithmetic, memory traffic, and the cost of a call."""

    name: str
    memory_bytes: int
    fp32_flops: float
    """Floating-point operations per second in matrix products."""
    bf16_flops: float | None
    """The same in bf16; None where bf16 is not computed natively, and fp32 is used instead."""
    bytes_per_second: float
    """Memory traffic."""
    operation_seconds: float
    """Cost of calling an operation."""
    slowness: float = 1.0
    """Ratio of the time of real updates to the time that these bounds give."""

    def seconds(self, operations: Iterable[Operation]) -> float:
        """Return the time of some operations, each by its tightest bound (the roofline model)."""
        total = 0.0
        for operation in operations:
            fast = self.bf16_flops if operation.dtype == torch.bfloat16 else None
            arithmetic = operation.num_flops / (fast or self.fp32_flops)
            traffic = operation.num_bytes / self.bytes_per_second
            total += max(arithmetic, traffic, self.operation_seconds)
        return self.slowness * total


EFFICIENCY = 0.5
"""Share of a data sheet's arithmetic and memory traffic that training is assumed to reach."""
CALL_SECONDS = 1e-5
"""Time that PyTorch takes to start an operation on a GPU."""


def _gpu(name: str, gib: int, fp32: float, bf16: float | None, traffic: float) -> Machine:
    """Return a GPU from its data sheet.

    Args:
        fp32: TFLOP/s without tensor cores, which PyTorch does not use in fp32 by default.
        bf16: TFLOP/s of the tensor cores, without sparsity.
        traffic: GB/s.
    """
    return Machine(
        name=name,
        memory_bytes=gib * GIB,
        fp32_flops=EFFICIENCY * fp32 * 1e12,
        bf16_flops=None if bf16 is None else EFFICIENCY * bf16 * 1e12,
        bytes_per_second=EFFICIENCY * traffic * 1e9,
        operation_seconds=CALL_SECONDS,
    )


GPUS = (
    _gpu("T4", 16, 8.1, None, 320),
    _gpu("L4", 24, 30.3, 121, 300),
    _gpu("A10", 24, 31.2, 125, 600),
    _gpu("A100-40", 40, 19.5, 312, 1555),
    _gpu("A100-80", 80, 19.5, 312, 2039),
    _gpu("H100", 80, 67, 989, 3350),
    _gpu("H200", 141, 67, 989, 4800),
)
"""From NVIDIA's data sheets, those of the SXM modules where they exist. None was measured."""


@cache
def this_machine() -> Machine:
    """Return the speed of this machine, measured at most once an hour, in half a second on a CPU.

    Either way it trains a small model, so that later memory counts include PyTorch's own code.
    """
    device = choose_device()
    name = f"{describe(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    path = cache_folder() / "machines" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
    with suppress(OSError, ValueError, TypeError):
        if time.time() - path.stat().st_mtime < MAX_AGE_SECONDS:
            machine = Machine(**json.loads(path.read_text("utf-8")))
            _train_small(_small_model(device), epochs=1)  # so that PyTorch's code is in memory
            return machine
    machine = _measure(device)
    with suppress(OSError), writing_to_cache(path) as temporary:  # if not, it is measured again
        temporary.write_text(to_json(asdict(machine)), "utf-8")
    return machine


def _measure(device: torch.device) -> Machine:
    def flops(dtype: torch.dtype) -> float:
        x = torch.ones(NUM_TOKENS, IN_DIM, dtype=dtype, device=device)
        weight = torch.ones(OUT_DIM, IN_DIM, dtype=dtype, device=device)
        seconds = _fastest(lambda: torch.nn.functional.linear(x, weight))
        return 2 * NUM_TOKENS * IN_DIM * OUT_DIM / seconds

    large, small = (torch.ones(size, device=device) for size in CALIBRATION_SIZES)
    machine = Machine(
        name=describe(device),
        memory_bytes=total_bytes(device),
        fp32_flops=flops(torch.float32),
        bf16_flops=flops(torch.bfloat16),
        bytes_per_second=2 * large.nbytes / _fastest(lambda: large.add_(1)),
        operation_seconds=_fastest(lambda: small + 1),
    )
    return replace(machine, slowness=_measure_slowness(machine, device))


def _measure_slowness(machine: Machine, device: torch.device) -> float:
    """Return the ratio of the time of a small model's real updates to the time by the bounds."""
    model = _small_model(device)
    steps = _train_small(model, epochs=4)
    with Rehearsal() as rehearsal:
        _train_small(model.cpu(), epochs=1)
    real = min(step.seconds for step in steps[1:])
    return max(1.0, real / machine.seconds(rehearsal.operations))


def _small_model(device: torch.device) -> LanguageModel:
    shape = GPT2Config(
        vocabulary_size=1024,
        context_length=64,
        model_dim=256,
        num_heads=4,
        num_layers=2,
        mlp_dim=1024,
    )
    model = build_model(shape, "cpu")
    initialise(model, torch.Generator().manual_seed(0))
    model.set_precision(choose_dtype("auto", device))
    return model.to(device)


def _train_small(model: LanguageModel, epochs: int) -> list[Step]:
    """Train a model with one update per epoch, and return the updates."""
    sequences = [Encoded("", np.arange(64 - i, dtype=np.int32), 1) for i in range(NUM_SEQUENCES)]
    config = TrainConfig(epochs=epochs, batch_size=NUM_SEQUENCES, learning_rate=1e-3)
    return list(train(model, sequences, config, seed=0))


def _fastest(work: Callable[[], object], times: int = 5) -> float:
    """Return the seconds of the fastest of some calls, after one that does not count."""
    seconds = []
    for _ in range(1 + times):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
