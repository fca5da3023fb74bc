"""The only place that steps an optimizer.

`train` is a generator: it yields each update it has made, and the caller logs, evaluates and stops.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils import clip_grad_norm_

from tunewise.data.encode import IGNORE, Encoded
from tunewise.data.packing import Batch, pack
from tunewise.device import keep_freed_memory
from tunewise.errors import TrainingError
from tunewise.models import LanguageModel
from tunewise.models.scoring import summed_loss
from tunewise.training.config import TrainConfig
from tunewise.training.optimizer import build_optimizer
from tunewise.training.schedule import learning_rate


@dataclass(frozen=True)
class Step:
    """One optimizer update."""

    number: int
    """From 1."""
    epoch: int
    """From 1."""
    loss: float
    """Mean over the update's scored tokens, before the update."""
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
    model: LanguageModel, sequences: Sequence[Encoded], config: TrainConfig, seed: int
) -> Iterator[Step]:
    """Yield every update of all epochs, made on the model in place.

    An update's loss is the sum over its scored tokens divided once by their number, however it is
    split into passes, so that short passes do not weigh too much.

    Raises:
        TrainingError: if the loss or the gradient is not finite; the update is not applied.
    """
    device = next(model.parameters()).device
    keep_freed_memory(device)
    optimizer = build_optimizer(model, config)
    parameters = [parameter for _, parameter in model.trainable()]
    per_epoch = updates_per_epoch(len(sequences), config)
    num_updates = config.epochs * per_epoch
    model.train()
    for number in range(num_updates):
        started = time.perf_counter()
        epoch, index = divmod(number, per_epoch)
        if index == 0:
            order = epoch_order(len(sequences), epoch, seed)
            if config.length_window is not None:
                lengths = [len(sequence.ids) for sequence in sequences]
                order = alike_in_length(order, lengths, config, epoch, seed)
        chosen = order[index * config.batch_size : (index + 1) * config.batch_size]
        batches = list(pack([sequences[i] for i in chosen], config.tokens_per_pass))
        rate = learning_rate(number, num_updates, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        num_scored = sum(batch.num_scored for batch in batches)
        loss = _accumulate(model, batches, num_scored, device)
        grad_norm = float(clip_grad_norm_(parameters, config.clip_norm or math.inf))
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            rows = ", ".join(dict.fromkeys(sequences[i].example_id for i in chosen))
            raise TrainingError(
                f"update {number + 1}: loss {loss}, gradient norm {grad_norm} at learning rate "
                f"{rate:g}; try a lower train.learning_rate, or look at the rows: {rows}"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(
            number=number + 1,
            epoch=epoch + 1,
            loss=loss,
            num_tokens=sum(batch.num_tokens for batch in batches),
            num_scored=num_scored,
            learning_rate=rate,
            grad_norm=grad_norm,
            seconds=time.perf_counter() - started,
        )


def _accumulate(
    model: LanguageModel, batches: list[Batch], num_scored: int, device: torch.device
) -> float:
    """Add the gradient of an update's mean loss, pass by pass, and return that loss."""
    total = torch.zeros((), device=device)
    for batch in batches:
        batch = batch.to(device)
        scored = batch.targets != IGNORE  # (N,)
        hidden = model.hidden(
            batch.tokens, batch.positions, batch.segments, states=batch.states
        )  # (N, D)
        loss = summed_loss(model, hidden[scored], batch.targets[scored]) / max(1, num_scored)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        total += loss.detach()
    return float(total)
