"""Parallel training: one run on several devices, and the messages between its processes.

`accelerate launch` and `torchrun` start the same command once per device, and say in the
environment (RANK, LOCAL_RANK, WORLD_SIZE) which process is which. Each holds the whole model and
takes its share of an update's sequences; their gradients are summed, so that all make the same
update. Only the main process, of rank 0, writes files and output. A process that is alone sends no
messages.
"""

import atexit
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

from tunewise.errors import ConfigError, TrainingError, TunewiseError

A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")

MAX_WAIT = timedelta(days=1)
"""Longest time that a process waits for the others, which may be writing texts."""


def is_main() -> bool:
    """Return whether this process is the one that writes files and output."""
    return int(os.environ.get("RANK", "0")) == 0


def num_launched() -> int:
    """Return how many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_others() -> None:
    """Connect to the processes that were started with this one, if there are any.

    Raises:
        ConfigError: if there are fewer GPUs than processes.
        TrainingError: if they do not find each other.
    """
    if num_launched() == 1 or not _is_alone():
        return
    if not is_main():
        logging.getLogger("tunewise").setLevel(logging.ERROR)
    backend = "gloo"
    if torch.cuda.is_available():
        place, num_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= num_gpus:
            raise ConfigError(f"there are {num_gpus} GPUs here; start no more processes")
        torch.cuda.set_device(place)
        backend = "cpu:gloo,cuda:nccl"
    with _together():
        distributed.init_process_group(backend, timeout=MAX_WAIT)
    atexit.register(distributed.destroy_process_group)


def my_share(things: Sequence[A], size: Callable[[A], int]) -> list[A]:
    """Return this process's share of some things; all shares have about the same size."""
    if _is_alone():
        return list(things)
    return [things[index] for index in _places(things, size)[distributed.get_rank()]]


def share_work(
    things: Sequence[A], size: Callable[[A], int], work: Callable[[Sequence[A]], list[B]]
) -> list[B]:
    """Return the result of some work for each thing, in their order; each process does a share."""
    if _is_alone():
        return work(things)
    mine = my_share(things, size)
    done: list[Any] = [None] * distributed.get_world_size()
    own = work(mine) if mine else []
    with _together():
        distributed.all_gather_object(done, own)
    made: dict[int, B] = {}
    for places, results in zip(_places(things, size), done, strict=True):
        made |= zip(places, results, strict=True)
    return [made[index] for index in range(len(things))]


def sum_gradients(parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Sum each gradient over the processes, in place, and return the sum of their losses.

    One message holds them all. A process without a share of the update has no gradients, and adds
    zeros.
    """
    if _is_alone():
        return loss
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.flatten()])
    with _together():
        distributed.all_reduce(flat)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, total in zip(parameters, torch.split(flat[:-1], sizes), strict=True):
        parameter.grad = total.view_as(parameter)
    return flat[-1]


def seed_process(seed: int, number: int) -> None:
    """Seed each process differently for an update, so that their dropout masks differ.

    The update's number decides, so that a resumed run needs no other process's state. A process
    that is alone keeps its own random state.
    """
    if not _is_alone():
        source = np.random.SeedSequence((seed, number, distributed.get_rank()))
        torch.manual_seed(int(source.generate_state(1, np.uint64)[0]))


def in_any_process(flag: bool) -> bool:
    """Return whether a flag is set in any process."""
    if _is_alone():
        return flag
    in_any = torch.tensor(int(flag))
    with _together():
        distributed.all_reduce(in_any, distributed.ReduceOp.MAX)
    return bool(in_any)


def from_main(make: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> A:
    """Return in every process the result of the main one; a TunewiseError is raised in all."""
    if _is_alone():
        return make(*args, **kwargs)
    box: list[Any] = [None, None]
    if is_main():
        try:
            with _others_wait():
                box[0] = make(*args, **kwargs)
        except TunewiseError as error:
            box[1] = error
    with _together():
        distributed.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    made: A = box[0]
    return made


def main_first(make: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> A:
    """Return the result of each process, the main one first, so that others find its files."""
    if _is_alone():
        return make(*args, **kwargs)
    if is_main():
        made = make(*args, **kwargs)
    with _together():
        distributed.barrier()
    return made if is_main() else make(*args, **kwargs)


def _is_alone() -> bool:
    """Return whether this process works without the others, or there are none."""
    return _works_alone or not (distributed.is_available() and distributed.is_initialized())


_works_alone = False


@contextmanager
def _others_wait() -> Iterator[None]:
    """Let this process work without messages while the others wait for its result."""
    global _works_alone
    _works_alone = True
    try:
        yield
    finally:
        _works_alone = False


def _places(things: Sequence[A], size: Callable[[A], int]) -> list[list[int]]:
    """Return which of some things, by their place, each process takes."""
    order = sorted(range(len(things)), key=lambda index: size(things[index]))
    num_processes = distributed.get_world_size()
    return [order[rank::num_processes] for rank in range(num_processes)]


@contextmanager
def _together() -> Iterator[None]:
    """Raise a TrainingError if a message of the block fails."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "the processes of this run have lost each other; if one has ended, it says why"
        ) from error
