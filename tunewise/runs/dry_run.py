"""Dry runs: the examples, lengths and labels that a run would train on, before it trains."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tunewise.config import RunConfig
from tunewise.data.encode import IGNORE, Encoded, EncodedSplit
from tunewise.data.example import Example
from tunewise.data.packing import targets_of
from tunewise.data.rows import SPLITS, Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_device
from tunewise.runs.memo import Shared
from tunewise.runs.parameters import count_parameters
from tunewise.runs.predictions import check_metrics
from tunewise.runs.prepare import prepare

NUM_SHOWN = 3
"""Number of training examples that are shown."""


@dataclass(frozen=True)
class ScoredText:
    """The text of neighbouring tokens, all of which are scored, or none."""

    text: str
    scored: bool


@dataclass(frozen=True)
class Shown:
    """An example as the model reads it."""

    id: str
    pieces: list[ScoredText]
    label: str
    """The label that a classifier has to answer; empty where text is scored."""


@dataclass(frozen=True)
class Lengths:
    """The lengths of a split's sequences, in tokens."""

    examples: int
    median: float
    most: float
    """The 95th percentile."""
    longest: int
    truncated: float
    """Fraction of the examples that lose tokens."""
    labels: dict[str, int]
    """Number of examples of each label."""


class DryRun(NamedTuple):
    """The examples that a run would train on, and the lengths of its splits."""

    shown: list[Shown]
    """The first training examples."""
    lengths: dict[Split, Lengths]


def dry_run(config: RunConfig, data: Path | None) -> DryRun:
    """Return the first training examples as the model reads them, and the lengths of each split.

    Raises:
        TunewiseError: as the run itself would, before its first update.
    """
    check_metrics(config)
    prepared = prepare(config, data, choose_device(), Shared(), SPLITS)
    # Raises if the method needs what the model does not have: shapes are enough to see it.
    count_parameters(config, prepared.config.task)
    by_id = {example.id: example for example in prepared.examples["train"]}
    shown = [
        _shown(by_id[sequence.example_id], sequence, prepared.tokenizer)
        for sequence in prepared.encoded["train"].sequences[:NUM_SHOWN]
    ]
    lengths = {
        split: _lengths(prepared.examples[split], prepared.encoded[split]) for split in SPLITS
    }
    return DryRun(shown, lengths)


def _shown(example: Example, sequence: Encoded, tokenizer: Tokenizer) -> Shown:
    scored = [False, *(targets_of(sequence)[:-1] != IGNORE)]  # (T,): is this token predicted?
    bounds = [0, *(i for i in range(1, len(scored)) if scored[i] != scored[i - 1]), len(scored)]
    pieces = [
        ScoredText(_text(sequence.ids[start:stop].tolist(), tokenizer), bool(scored[start]))
        for start, stop in pairwise(bounds)
    ]
    return Shown(example.id, pieces, example.target if sequence.label is not None else "")


def _text(ids: list[int], tokenizer: Tokenizer) -> str:
    """Return the text of ids; virtual ids have none."""
    known = [token for token in ids if token < tokenizer.size]
    virtual = len(ids) - len(known)
    return (f"[{virtual} virtual tokens]" if virtual else "") + tokenizer.decode(known)


def _lengths(examples: Sequence[Example], encoded: EncodedSplit) -> Lengths:
    lengths = np.array([len(sequence.ids) for sequence in encoded.sequences])
    labels = Counter(example.target.strip() for example in examples if example.choices)
    return Lengths(
        examples=len(examples),
        median=float(np.median(lengths)),
        most=float(np.quantile(lengths, 0.95)),
        longest=int(lengths.max()),
        truncated=encoded.num_truncated / len(examples),
        labels=dict(sorted(labels.items(), key=lambda item: -item[1])),
    )
