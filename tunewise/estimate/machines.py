"""How fast machines are: this one by a short calibration, some GPUs by their data sheets."""

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
from tunewise.memory import GIB, total_bytes
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.language_model import initialise
from tunewise.training.config import TrainConfig
from tunewise.training.loop import Step, train

ROWS, IN, OUT = 512, 768, 3072
"""The product that is timed: 512 tokens through the widest layer of GPT-2."""
UPDATE_ROWS = 8
"""Texts in the updates that are timed, all of another length."""
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
    slowness: float = 1.0
    """How much longer than these bounds real updates take."""

    def seconds(self, operations: Iterable[Operation]) -> float:
        """Return how long operations take, each by its nearest bound (the roofline model)."""
        total = 0.0
        for operation in operations:
            fast = self.bf16_flops if operation.dtype == torch.bfloat16 else None
            arithmetic = operation.num_flops / (fast or self.fp32_flops)
            traffic = operation.num_bytes / self.bytes_per_second
            total += max(arithmetic, traffic, self.operation_seconds)
        return self.slowness * total


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


KNOWN_FOR = 3600
"""Seconds after which a machine is measured anew: what else it does may have changed."""


@cache
def this_machine() -> Machine:
    """Return the machine that runs this, measured: half a second on a processor, once an hour."""
    device = choose_device()
    name = f"{describe(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    path = cache_folder() / "machines" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
    with suppress(OSError, ValueError, TypeError):
        if time.time() - path.stat().st_mtime < KNOWN_FOR:
            machine = Machine(**json.loads(path.read_text("utf-8")))
            # PyTorch's code takes 23 MiB once it has made an update: then what is held is counted.
            _small_updates(_small_model(device), epochs=1)
            return machine
    machine = _measured(device)
    with suppress(OSError), writing_to_cache(path) as temporary:  # if not, it is measured again
        temporary.write_text(json.dumps(asdict(machine)), "utf-8")
    return machine


def _measured(device: torch.device) -> Machine:
    def product(dtype: torch.dtype) -> float:
        x = torch.ones(ROWS, IN, dtype=dtype, device=device)
        weight = torch.ones(OUT, IN, dtype=dtype, device=device)
        return 2 * ROWS * IN * OUT / _best(lambda: torch.nn.functional.linear(x, weight))

    many, few = (torch.ones(size, device=device) for size in (MANY, FEW))
    machine = Machine(
        name=describe(device),
        memory_bytes=total_bytes(device),
        fp32_flops=product(torch.float32),
        bf16_flops=product(torch.bfloat16),
        bytes_per_second=2 * many.nbytes / _best(lambda: many.add_(1)),
        operation_seconds=_best(lambda: few + 1),
    )
    return replace(machine, slowness=_slowness(machine, device))


def _slowness(machine: Machine, device: torch.device) -> float:
    """Return how much longer a small model's real updates take than the bounds say."""
    model = _small_model(device)
    steps = _small_updates(model, epochs=4)
    with Rehearsal() as rehearsal:
        _small_updates(model.cpu(), epochs=1)
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


def _small_updates(model: LanguageModel, epochs: int) -> list[Step]:
    """Make an update in each epoch."""
    rows = [Encoded("", np.arange(64 - row, dtype=np.int32), 1) for row in range(UPDATE_ROWS)]
    config = TrainConfig(epochs=epochs, batch_size=UPDATE_ROWS, learning_rate=1e-3)
    return list(train(model, rows, config, seed=0))


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
