"""The only place that steps an optimizer.

`train` is a generator: it yields each update it has made, and the caller logs, evaluates and stops.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, pack
from tunewise.errors import TrainingError
from tunewise.memory import is_out_of_memory, keep_freed_memory
from tunewise.models import LanguageModel
from tunewise.models.fast.loss import summed_loss
from tunewise.training.compiled import compile_blocks
from tunewise.training.config import TrainConfig
from tunewise.training.optimizer import Optimizer, build_optimizer
from tunewise.training.parallel import draw_apart, share, sum_gradients
from tunewise.training.schedule import learning_rate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One optimizer update."""

    number: int
    """From 1."""
    epoch: int
    """From 1."""
    loss: float
    """Mean over the update's scored tokens, before the update; if it or the gradient is not finite,
    the update was left out."""
    num_tokens: int
    num_scored: int
    learning_rate: float
    grad_norm: float
    """Of the whole gradient, before clipping."""
    seconds: float


def epoch_order(num_sequences: int, epoch: int, seed: int) -> list[int]:
    """Return the order of an epoch's sequences: the same for every method and model.

    Args:
        epoch: from 0.
    """
    order: list[int] = torch.randperm(num_sequences, generator=_chance(epoch, seed)).tolist()
    return order


def alike_in_length(
    order: Sequence[int], lengths: Sequence[int], config: TrainConfig, epoch: int, seed: int
) -> list[int]:
    """Return an epoch's order so arranged that an update's sequences are of like length.

    The updates of a window share their sequences out by length, and are then shuffled.

    Args:
        lengths: of the sequences, by their number in `order`.
        epoch: from 0.
    """
    assert config.length_window is not None
    window, size = config.length_window * config.batch_size, config.batch_size
    generator = _chance(epoch, seed)
    arranged: list[int] = []
    for start in range(0, len(order), window):
        alike = sorted(order[start : start + window], key=lengths.__getitem__)
        num_full = len(alike) // size
        for update in torch.randperm(num_full, generator=generator).tolist():
            arranged += alike[update * size : (update + 1) * size]
        arranged += alike[num_full * size :]  # the epoch's last update may be short
    return arranged


def _chance(epoch: int, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 1_000_003 * epoch)


def updates_per_epoch(num_sequences: int, config: TrainConfig) -> int:
    """Return how many updates an epoch makes; the last may have fewer sequences."""
    return math.ceil(num_sequences / config.batch_size)


def train(
    model: LanguageModel,
    sequences: Sequence[Encoded],
    config: TrainConfig,
    seed: int,
    optimizer: Optimizer | None = None,
    num_made: int = 0,
) -> Iterator[Step]:
    """Yield every update of all epochs, made on the model in place.

    An update's loss is the sum over its scored tokens divided once by their number, however it is
    split into passes, so that short passes do not weigh too much. Where memory runs out, passes
    become smaller, and the updates stay the same. So they do where several processes share them.

    Args:
        optimizer: of the model, to go on with its state; without it, a fresh one.
        num_made: how many updates have been made before.

    Raises:
        ConfigError: if blocks are to be compiled and there is no compiler.
        TrainingError: if the loss or the gradient is not finite; the update is not applied. Also if
            one sequence alone takes more memory than there is.
    """
    device = next(model.parameters()).device
    keep_freed_memory(device)
    if config.compile == "on":
        compile_blocks(model)
    optimizer = optimizer or build_optimizer(model, config)
    parameters = [parameter for _, parameter in model.trainable()]
    per_epoch = updates_per_epoch(len(sequences), config)
    num_updates = config.epochs * per_epoch
    tokens_per_pass = config.tokens_per_pass
    order: list[int] = []
    model.train()
    for number in range(num_made, num_updates):
        started = time.perf_counter()
        epoch, index = divmod(number, per_epoch)
        if index == 0 or not order:
            order = _order(sequences, config, epoch, seed)
        places = order[index * config.batch_size : (index + 1) * config.batch_size]
        chosen = [sequences[place] for place in places]
        rate = learning_rate(number, num_updates, config)
        draw_apart(seed, number)
        found, tokens_per_pass = _gradient(model, chosen, tokens_per_pass)
        found = sum_gradients(parameters, found)
        norm = clip_grad_norm_(parameters, config.clip_norm or math.inf)
        # The one place where an update waits for the device.
        loss, grad_norm = torch.stack((found, norm)).tolist()
        if math.isfinite(loss) and math.isfinite(grad_norm):
            optimizer.step(rate)
        else:
            rows = ", ".join(dict.fromkeys(sequence.example_id for sequence in chosen))
            problem = f"update {number + 1}: loss {loss}, gradient norm {grad_norm}"
            if config.on_nan == "stop":
                raise TrainingError(
                    f"{problem} at learning rate {rate:g}; try a lower train.learning_rate, or "
                    f"look at the rows: {rows}"
                )
            logger.warning("%s: left out, with the rows: %s", problem, rows)
        optimizer.zero_grad()
        yield Step(
            number=number + 1,
            epoch=epoch + 1,
            loss=loss,
            num_tokens=sum(len(sequence.ids) for sequence in chosen),
            num_scored=sum(sequence.num_scored for sequence in chosen),
            learning_rate=rate,
            grad_norm=grad_norm,
            seconds=time.perf_counter() - started,
        )


def _order(sequences: Sequence[Encoded], config: TrainConfig, epoch: int, seed: int) -> list[int]:
    """Return the order in which an epoch takes its sequences."""
    order = epoch_order(len(sequences), epoch, seed)
    if config.length_window is None:
        return order
    lengths = [len(sequence.ids) for sequence in sequences]
    return alike_in_length(order, lengths, config, epoch, seed)


def _gradient(
    model: LanguageModel, chosen: list[Encoded], tokens_per_pass: int
) -> tuple[Tensor, int]:
    """Add this process's part of an update's gradient, in passes as small as memory asks for.

    Returns:
        Its part of the update's loss, and the most tokens of a pass that there was memory for.
    """
    num_scored = sum(sequence.num_scored for sequence in chosen)
    own = share(chosen, size=lambda sequence: len(sequence.ids))
    while True:
        batches = list(pack(own, tokens_per_pass))
        try:
            return _accumulate(model, batches, num_scored), tokens_per_pass
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # Outside the handler, which keeps what it was that filled the memory.
        model.zero_grad(set_to_none=True)
        if len(batches) == len(own):
            longest = max(len(sequence.ids) for sequence in own)
            raise TrainingError(
                f"out of memory with a single sequence of {longest} tokens in a pass; lower "
                "train.max_length, set train.checkpointing=true, or choose a method that trains "
                f"less ({reason.splitlines()[0]})"
            )
        tokens_per_pass = max(batch.num_tokens for batch in batches) // 2
        logger.warning(
            "out of memory: from here on a pass has at most %d tokens; the updates stay the same",
            tokens_per_pass,
        )


def _accumulate(model: LanguageModel, batches: list[Batch], num_scored: int) -> Tensor:
    """Add the gradient of a loss, pass by pass, and return that loss, fp32.

    It is the sum over the batches' scored tokens, divided by the number of the update's.
    """
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for batch in batches:
        batch = batch.to(device)
        hidden = model.scored_hidden(batch)  # (M, D)
        loss = summed_loss(model, hidden, batch.targets[batch.scored]) / max(1, num_scored)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        total += loss.detach()
    return total
