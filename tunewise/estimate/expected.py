"""The estimate of a run: the memory and the time of its rehearsed work on a machine."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunewise.data.rows import Split
from tunewise.estimate.machines import Machine, this_machine
from tunewise.estimate.rehearsal import Operation
from tunewise.estimate.work import Work, count_evaluations, rehearse
from tunewise.memory import free_bytes, give_back_memory, held_bytes, kept_kernels
from tunewise.runs.memo import Key, Shared
from tunewise.runs.prepare import Prepared
from tunewise.runs.result import Estimate
from tunewise.training.config import TrainConfig

logger = logging.getLogger(__name__)

KERNEL_BYTES = 5 * 2**18
"""Memory of the kernel that oneDNN compiles for one shape of a product in bf16, as measured: 0.9
MiB on average in LoRA's updates, and 1.4 to 1.6 in those of all weights."""


@dataclass(frozen=True)
class WorkKey(Key[Work]):
    """A set-up, and the splits that it reads."""

    config: str
    """The configuration as JSON, without the fields that do not change the work."""
    splits: tuple[Split, ...]


def estimate_run(prepared: Prepared, shared: Shared) -> Estimate:
    """Return the estimate of a run in this process, which holds its rows already.

    The first call in a process trains a small model; see `machines`.

    Args:
        shared: keeps the work of runs that differ only in their seed or learning rate.
    """
    machine = this_machine()  # first, while freed large blocks are still given back to the system
    work = find_work(prepared, shared)
    peak_bytes = count_memory(work, prepared.device)
    return estimate_on(machine, work, prepared.config.train, peak_bytes)


def find_work(prepared: Prepared, shared: Shared) -> Work:
    """Return the work of a run, from a rehearsal or from an earlier one of the same work."""
    # With more than one epoch, an evaluation's tensors are alive during later updates.
    epochs = min(2, prepared.config.train.epochs)
    train = prepared.config.train.model_copy(update={"learning_rate": None, "epochs": epochs})
    alike = prepared.config.model_copy(update={"seed": 0, "train": train}).model_dump_json()
    return shared.get(WorkKey(alike, tuple(prepared.encoded)), lambda: rehearse(prepared))


def count_memory(work: Work, device: torch.device) -> int:
    """Return the most bytes that this process will hold while it does some work on a device."""
    if device.type != "cpu":
        return held_bytes(device) + work.peak_bytes
    give_back_memory()
    return held_bytes(device) + work.heap_bytes + work.states_bytes + _kernel_bytes(work)


def _kernel_bytes(work: Work) -> int:
    """Return the memory of compiled kernels on a CPU: one per shape, up to as many as are kept."""

    def count(operations: Sequence[Operation]) -> int:
        return len({o.shapes for o in operations if o.dtype == torch.bfloat16 and o.shapes})

    num_kernels = count(work.update) * work.num_sizes + count(work.evaluation_pass)
    return KERNEL_BYTES * min(kept_kernels(), num_kernels)


def estimate_on(machine: Machine, work: Work, train: TrainConfig, peak_bytes: int) -> Estimate:
    """Return the time that work takes on a machine, together with the memory counted for it."""
    token_seconds = machine.seconds(work.evaluation_pass) / work.evaluation_tokens
    num_tokens = count_evaluations(train, work.num_updates) * work.tokens["validation"]
    evaluation_seconds = token_seconds * (num_tokens + work.tokens.get("test", 0))
    frozen_seconds = 0.0
    if work.frozen_pass:
        num_passes = sum(work.tokens.values()) / work.frozen_tokens
        frozen_seconds = num_passes * machine.seconds(work.frozen_pass)
    epoch_seconds = work.num_updates * machine.seconds(work.update)
    return Estimate(
        peak_bytes=peak_bytes,
        epoch_seconds=epoch_seconds,
        frozen_seconds=frozen_seconds,
        evaluation_seconds=evaluation_seconds,
        seconds=train.epochs * epoch_seconds + evaluation_seconds + frozen_seconds,
    )


def warn_of_memory(expected: Estimate, device: torch.device) -> None:
    """Log a warning if a run is estimated to need more memory than there is."""
    free = free_bytes(device) + held_bytes(device)
    if expected.peak_bytes > free:
        logger.warning(
            "this run is estimated to need %.1f GiB, and there are %.1f; lower "
            "train.tokens_per_pass, set train.checkpointing=true, or see `tunewise estimate`",
            expected.peak_bytes / 2**30,
            free / 2**30,
        )
