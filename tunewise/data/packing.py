"""Packing: sequences of any length, end to end in one flat row of tokens, without padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tunewise.data.encode import IGNORE, Encoded

Unit = tuple[Encoded, ...]
"""Sequences that always go through the model together: one alone, or those that are compared."""


class Group(NamedTuple):
    """Neighbouring sequences of one length."""

    num_sequences: int
    length: int


@dataclass(frozen=True)
class Batch:
    """Packed sequences. A tensor without another shape is (N,), one entry per token.

    Two sequences, `good film` with a label to predict and `one two three` with its last two tokens
    to predict, are one row of five tokens:

        tokens     good  film   one   two  three
        positions     0     1     0     1      2
        segments      0     0     1     1      1
        targets       -     1   two three      -      (- is IGNORE)
        scored           1, 2, 3
        groups     [Group(1, 2), Group(1, 3)]
    """

    tokens: Tensor
    positions: Tensor
    """Place in its own sequence, from 0."""
    segments: Tensor
    """Number of its sequence in the batch, from 0."""
    groups: list[Group]
    """The sequences, neighbours of equal length together."""
    targets: Tensor
    """The target of each token: the next token, a label, or IGNORE."""
    scored: Tensor
    """(M,) the places of the targets that are not IGNORE."""
    states: Tensor | None
    """(N, D) frozen states: the output of frozen first blocks, if it is known."""
    num_tokens: int
    """Tokens of all sequences; more than N if only their last ones are computed."""

    @property
    def num_scored(self) -> int:
        """Number of targets that are not IGNORE."""
        return len(self.scored)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return replace(
            self,
            tokens=self.tokens.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            scored=self.scored.to(device, non_blocking=True),
            states=None if self.states is None else self.states.to(device, non_blocking=True),
        )


class Pass(NamedTuple):
    """The sequences that go through the model at once."""

    sequences: list[Encoded]
    batch: Batch
    """The sequences, packed; `batch.segments` has their numbers in the list."""


def pack(sequences: Sequence[Encoded], tokens_per_pass: int) -> Iterator[Batch]:
    """Yield batches of whole sequences, in order, of at most `tokens_per_pass` tokens each.

    A sequence longer than that is a batch of its own. Within a batch the sequences stand in order
    of length, since attention computes neighbours of equal length together; `segments` keeps
    track of which is which.
    """
    return (part.batch for part in pack_units([(s,) for s in sequences], tokens_per_pass))


def pack_units(units: Sequence[Unit], tokens_per_pass: int) -> Iterator[Pass]:
    """Yield passes of whole units, in order; otherwise as `pack`."""
    chosen: list[Encoded] = []
    num_tokens = 0
    for unit in units:
        length = sum(map(_num_computed, unit))
        if chosen and num_tokens + length > tokens_per_pass:
            yield Pass(chosen, _batch(chosen))
            chosen, num_tokens = [], 0
        chosen += unit
        num_tokens += length
    if chosen:
        yield Pass(chosen, _batch(chosen))


def _batch(sequences: list[Encoded]) -> Batch:
    lengths = np.array([_num_computed(sequence) for sequence in sequences])
    order = np.argsort(lengths, kind="stable")
    lengths = lengths[order]
    ordered = [sequences[index] for index in order]
    parts = list(zip(ordered, lengths.tolist(), strict=True))
    tokens = np.concatenate([sequence.ids[-length:] for sequence, length in parts])
    targets = np.concatenate([targets_of(sequence)[-length:] for sequence, length in parts])
    states = [sequence.states for sequence in ordered if sequence.states is not None]
    starts = np.cumsum(lengths) - lengths
    return Batch(
        tokens=torch.from_numpy(tokens.astype(np.int64)),
        positions=torch.from_numpy(np.arange(len(tokens)) - np.repeat(starts, lengths)),
        segments=torch.from_numpy(np.repeat(order, lengths)),
        groups=[Group(len(list(same)), length) for length, same in groupby(lengths.tolist())],
        targets=torch.from_numpy(targets),
        scored=torch.from_numpy(np.flatnonzero(targets != IGNORE)),
        states=torch.cat(states) if states else None,
        num_tokens=sum(len(sequence.ids) for sequence in sequences),
    )


def _num_computed(sequence: Encoded) -> int:
    """Return how many of a sequence's last tokens go through the model."""
    return len(sequence.ids) if sequence.states is None else len(sequence.states)


def targets_of(sequence: Encoded) -> npt.NDArray[np.int64]:
    """Return the targets of a sequence, (T,): what each token has to predict."""
    targets = np.full(len(sequence.ids), IGNORE, dtype=np.int64)
    if sequence.label is not None:
        targets[-1] = sequence.label
    else:
        start = max(sequence.prompt_length, 1)
        targets[start - 1 : -1] = sequence.ids[start:]
    return targets
