"""What a run is expected to take on this machine."""

import logging
from collections.abc import Sequence

import torch

from tunewise.estimate.machines import Machine, this_machine
from tunewise.estimate.rehearsal import Operation
from tunewise.estimate.work import Work, num_evaluations, rehearse
from tunewise.memory import free_bytes, give_back_memory, held_bytes, kept_kernels
from tunewise.runs.memo import Shared
from tunewise.runs.prepare import Prepared
from tunewise.runs.result import Estimate
from tunewise.training.config import TrainConfig

logger = logging.getLogger(__name__)

KERNEL_BYTES = 5 * 2**18
"""What oneDNN takes for the compiled kernel of one shape of a product in bf16, as measured: 0.9 MiB
on average in LoRA's updates, and 1.4 to 1.6 in those of all weights."""


def estimate_run(prepared: Prepared, shared: Shared) -> Estimate:
    """Return what a run is expected to take, by a process that holds its rows already.

    Args:
        shared: keeps what runs take that differ in their seed or learning rate alone.
    """
    machine = this_machine()  # first, while large blocks still go back to the system
    work = work_of(prepared, shared)
    return on(machine, work, prepared.config.train, memory_of(work, prepared.device))


def work_of(prepared: Prepared, shared: Shared) -> Work:
    """Return what a set-up takes, from what is known or by a rehearsal."""
    epochs = min(2, prepared.config.train.epochs)  # what is kept differs between one and two
    train = prepared.config.train.model_copy(update={"learning_rate": None, "epochs": epochs})
    alike = prepared.config.model_copy(update={"seed": 0, "train": train}).model_dump_json()
    return shared.get(("work", alike, *prepared.encoded), lambda: rehearse(prepared))


def memory_of(work: Work, device: torch.device) -> int:
    """Return the most bytes this process will hold that does some work on a device."""
    if device.type != "cpu":
        return held_bytes(device) + work.peak_bytes
    give_back_memory()
    return held_bytes(device) + work.heap_bytes + work.states_bytes + _kernel_bytes(work)


def on(machine: Machine, work: Work, train: TrainConfig, peak_bytes: int) -> Estimate:
    """Return what work takes on a machine, whose memory is counted already."""
    tokens = work.tokens
    of_a_token = machine.seconds(work.forward) / work.forward_tokens
    evaluated = num_evaluations(train, work.num_updates) * tokens["validation"]
    evaluation_seconds = of_a_token * (evaluated + tokens.get("test", 0))
    passes = sum(tokens.values()) / work.prefix_tokens if work.prefix else 0.0
    prefix_seconds = passes * machine.seconds(work.prefix)
    epoch_seconds = work.num_updates * machine.seconds(work.update)
    return Estimate(
        peak_bytes=peak_bytes,
        epoch_seconds=epoch_seconds,
        frozen_seconds=prefix_seconds,
        evaluation_seconds=evaluation_seconds,
        seconds=train.epochs * epoch_seconds + evaluation_seconds + prefix_seconds,
    )


def _kernel_bytes(work: Work) -> int:
    """Return what the compiled kernels take on a CPU: one per shape, up to as many as are kept."""

    def count(operations: Sequence[Operation]) -> int:
        return len({o.shapes for o in operations if o.dtype == torch.bfloat16 and o.shapes})

    num_kernels = count(work.update) * work.num_sizes + count(work.forward)
    return KERNEL_BYTES * min(kept_kernels(), num_kernels)


def warn_of_memory(expected: Estimate, device: torch.device) -> None:
    """Say so if a run is expected to take more memory than there is."""
    free = free_bytes(device) + held_bytes(device)
    if expected.peak_bytes > free:
        logger.warning(
            "this run is expected to take %.1f GiB, and there are %.1f; lower "
            "train.tokens_per_pass, set train.checkpointing=true, or see `tunewise estimate`",
            expected.peak_bytes / 2**30,
            free / 2**30,
        )


def clock(seconds: float) -> str:
    """Return a time as people read it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
