"""Sequences of any length, end to end in one flat row of tokens: nothing is padded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tunewise.data.encode import IGNORE, Encoded


@dataclass(frozen=True)
class Batch:
    """Packed sequences. Each tensor is (N,), one entry per token."""

    tokens: Tensor
    positions: Tensor
    """Place in its own sequence, from 0."""
    segments: Tensor
    """Number of its sequence in the batch, from 0."""
    targets: Tensor
    """What is to be predicted here: the next token, a label, or IGNORE."""
    num_scored: int
    """How many targets are not IGNORE."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(
            tokens=self.tokens.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            num_scored=self.num_scored,
        )


def pack(sequences: Sequence[Encoded], tokens_per_pass: int) -> Iterator[Batch]:
    """Yield batches of whole sequences, in order, of at most `tokens_per_pass` tokens each.

    A sequence longer than that is a batch of its own. Within a batch the sequences stand in order
    of length, since attention computes neighbours of equal length together; `segments` keeps
    track of which is which.
    """
    chosen: list[Encoded] = []
    num_tokens = 0
    for sequence in sequences:
        if chosen and num_tokens + len(sequence.ids) > tokens_per_pass:
            yield _batch(chosen)
            chosen, num_tokens = [], 0
        chosen.append(sequence)
        num_tokens += len(sequence.ids)
    if chosen:
        yield _batch(chosen)


def _batch(sequences: list[Encoded]) -> Batch:
    lengths = np.array([len(sequence.ids) for sequence in sequences])
    order = np.argsort(lengths, kind="stable")
    lengths = lengths[order]
    tokens = np.concatenate([sequences[i].ids for i in order]).astype(np.int64)
    targets = np.concatenate([targets_of(sequences[i]) for i in order])
    starts = np.cumsum(lengths) - lengths
    return Batch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(np.arange(len(tokens)) - np.repeat(starts, lengths)),
        segments=torch.from_numpy(np.repeat(order, lengths)),
        targets=torch.from_numpy(targets),
        num_scored=sum(sequence.num_scored for sequence in sequences),
    )


def targets_of(sequence: Encoded) -> npt.NDArray[np.int64]:
    """Return (T,) what each token of a sequence has to predict."""
    targets = np.full(len(sequence.ids), IGNORE, dtype=np.int64)
    if sequence.label is not None:
        targets[-1] = sequence.label
    else:
        start = max(sequence.prompt_length, 1)
        targets[start - 1 : -1] = sequence.ids[start:]
    return targets
