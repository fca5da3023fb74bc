"""The training loop: the only place that steps an optimizer.

`train` is a generator: it yields each update it has made; the caller logs, evaluates and stops.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BeforeValidator, ConfigDict
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from tunewise.data.encode import Encoded
from tunewise.data.packing import Pass, Unit, pack_units
from tunewise.errors import TrainingError, first_of
from tunewise.memory import is_out_of_memory, keep_freed_memory
from tunewise.models import LanguageModel
from tunewise.training.compiled import compile_blocks
from tunewise.training.config import TrainConfig
from tunewise.training.objectives import Objective
from tunewise.training.optimizers import Optimizer, build_optimizer
from tunewise.training.parallel import my_share, seed_process, sum_gradients
from tunewise.training.schedule import learning_rate

logger = logging.getLogger(__name__)


Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number that JSON writes as null if it is not finite."""


@dataclass(frozen=True)
class Step:
    """One optimizer update, in memory and as a line of metrics.jsonl."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    number: int
    """The number of the update, from 1."""
    epoch: int
    """The epoch of the update, from 1."""
    loss: Number
    """The objective's mean over the update, before the update; if it or the gradient is not finite,
    the update was skipped."""
    num_tokens: int
    num_scored: int
    learning_rate: Number
    grad_norm: Number
    """The norm of the whole gradient, before clipping."""
    seconds: Number


def epoch_order(num_units: int, epoch: int, seed: int) -> list[int]:
    """Return the order of an epoch's units: the same for every method and model.

    Args:
        epoch: from 0.
    """
    order: list[int] = torch.randperm(num_units, generator=_generator(epoch, seed)).tolist()
    return order


def group_by_length(
    order: Sequence[int], lengths: Sequence[int], config: TrainConfig, epoch: int, seed: int
) -> list[int]:
    """Return an epoch's order rearranged so that an update's units have similar lengths.

    The units of `length_window` updates are sorted by length and distributed to these updates,
    which are then shuffled.

    Args:
        lengths: the length of each unit, by its number in `order`.
        epoch: from 0.
    """
    assert config.length_window is not None
    window, size = config.length_window * config.batch_size, config.batch_size
    generator = _generator(epoch, seed)
    arranged: list[int] = []
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lengths.__getitem__)
        num_full = len(by_length) // size
        for update in torch.randperm(num_full, generator=generator).tolist():
            arranged += by_length[update * size : (update + 1) * size]
        arranged += by_length[num_full * size :]  # the epoch's last update may be short
    return arranged


def _generator(epoch: int, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 1_000_003 * epoch)


def updates_per_epoch(num_units: int, config: TrainConfig) -> int:
    """Return how many updates an epoch makes; the last may have fewer units."""
    return math.ceil(num_units / config.batch_size)


def train(
    model: LanguageModel,
    sequences: Sequence[Encoded],
    config: TrainConfig,
    seed: int,
    optimizer: Optimizer | None = None,
    num_made: int = 0,
) -> Iterator[Step]:
    """Make every update of all epochs on the model in place, and yield each.

    An update's loss is the sum over all its passes divided once, for cross-entropy by the number of
    its scored tokens, so that short passes do not weigh too much. Where memory runs out, passes
    become smaller, and the updates stay the same. So they do where several processes share them.

    From now on the C library keeps the memory that this process frees; see `keep_freed_memory`.

    Args:
        optimizer: an optimizer of the model whose state is used; without it, a new one.
        num_made: how many updates have been made before.

    Raises:
        ConfigError: if blocks are to be compiled and there is no compiler.
        TrainingError: if the loss or the gradient is not finite and `config.on_nan` is `stop`; the
            update is not applied. Also if one unit alone takes more memory than there is.
    """
    device = next(model.parameters()).device
    keep_freed_memory(device)
    if config.compile == "on":
        compile_blocks(model)
    optimizer = optimizer or build_optimizer(model, config.optimizer, config.weight_decay)
    parameters = [parameter for _, parameter in model.trainable()]
    objective = config.objective
    units = objective.units(sequences)
    per_epoch = updates_per_epoch(len(units), config)
    num_updates = config.epochs * per_epoch
    tokens_per_pass = config.tokens_per_pass
    order: list[int] = []
    model.train()
    for number in range(num_made, num_updates):
        started = time.perf_counter()
        epoch, index = divmod(number, per_epoch)
        if index == 0 or not order:
            order = _order(units, config, epoch, seed)
        places = order[index * config.batch_size : (index + 1) * config.batch_size]
        chosen = [units[place] for place in places]
        rate = learning_rate(number, num_updates, config)
        seed_process(seed, number)
        own_loss, tokens_per_pass = _gradient(model, objective, chosen, tokens_per_pass)
        total_loss = sum_gradients(parameters, own_loss)
        norm = clip_grad_norm_(parameters, config.clip_norm or math.inf)
        # The one place where an update waits for the device.
        loss, grad_norm = torch.stack((total_loss, norm)).tolist()
        if math.isfinite(loss) and math.isfinite(grad_norm):
            optimizer.step(rate)
        else:
            rows = first_of(sequence.example_id for unit in chosen for sequence in unit)
            problem = f"update {number + 1}: loss {loss}, gradient norm {grad_norm}"
            if config.on_nan == "stop":
                # No rate has had an effect before the first update.
                advice = "try a lower train.learning_rate" if number else "try another model"
                raise TrainingError(
                    f"{problem} at learning rate {rate:g}; {advice}, or look at the rows: {rows}"
                )
            logger.warning("%s: skipped, with the rows: %s", problem, rows)
        optimizer.zero_grad()
        yield Step(
            number=number + 1,
            epoch=epoch + 1,
            loss=loss,
            num_tokens=sum(map(_num_tokens, chosen)),
            num_scored=sum(sequence.num_scored for unit in chosen for sequence in unit),
            learning_rate=rate,
            grad_norm=grad_norm,
            seconds=time.perf_counter() - started,
        )


def _num_tokens(unit: Sequence[Encoded]) -> int:
    return sum(len(sequence.ids) for sequence in unit)


def _order(units: Sequence[Unit], config: TrainConfig, epoch: int, seed: int) -> list[int]:
    """Return the order in which an epoch takes its units."""
    order = epoch_order(len(units), epoch, seed)
    if config.length_window is None:
        return order
    return group_by_length(order, list(map(_num_tokens, units)), config, epoch, seed)


def _gradient(
    model: LanguageModel, objective: Objective, chosen: list[Unit], tokens_per_pass: int
) -> tuple[Tensor, int]:
    """Add this process's part of an update's gradient, in smaller passes if memory runs out.

    Returns:
        Its part of the update's loss, and the most tokens of a pass that memory allowed.
    """
    count = objective.count(chosen)
    own = my_share(chosen, size=_num_tokens)
    while True:
        passes = list(pack_units(own, tokens_per_pass))
        try:
            return _accumulate(model, objective, passes, count), tokens_per_pass
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # Outside the handler, since the error keeps alive the tensors that filled the memory.
        model.zero_grad(set_to_none=True)
        if len(passes) == len(own):
            longest = max(len(sequence.ids) for unit in own for sequence in unit)
            raise TrainingError(
                f"out of memory with a single sequence of {longest} tokens in a pass; lower "
                "train.max_length, set train.checkpointing=true, or choose a method that trains "
                f"less ({reason.splitlines()[0]})"
            )
        tokens_per_pass = max(part.batch.num_tokens for part in passes) // 2
        logger.warning(
            "out of memory: from here on a pass has at most %d tokens; the updates stay the same",
            tokens_per_pass,
        )


def _accumulate(
    model: LanguageModel, objective: Objective, passes: list[Pass], count: int
) -> Tensor:
    """Add the gradient of a loss, pass by pass, and return that loss, fp32.

    It is the sum over the passes, divided by what the objective counts in the whole update.
    """
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for sequences, batch in passes:
        batch = batch.to(device)
        hidden = model.scored_hidden(batch)  # (M, D)
        loss = objective.summed_loss(model, hidden, batch, sequences) / max(1, count)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        total += loss.detach()
    return total
