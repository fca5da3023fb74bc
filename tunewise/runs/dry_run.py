"""What a run would train on, shown before anything is trained: examples, lengths, labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tunewise.config import RunConfig
from tunewise.data.encode import IGNORE, Encoded, EncodedSplit
from tunewise.data.example import Example
from tunewise.data.packing import targets_of
from tunewise.data.rows import SPLITS, Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.models.folder import find_folder, shape_of
from tunewise.runs.answer import check_metrics, encode
from tunewise.runs.parameters import count_parameters

NUM_SHOWN = 3


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens that are all scored, or all given."""

    text: str
    scored: bool


@dataclass(frozen=True)
class Shown:
    """An example as the model meets it."""

    id: str
    pieces: list[Piece]
    label: str
    """What a classifier's output layer has to answer; empty where text is scored."""


@dataclass(frozen=True)
class Lengths:
    """How long the sequences of a split are, in tokens."""

    examples: int
    median: float
    most: float
    """95 % are no longer."""
    longest: int
    truncated: float
    """The share of examples that lose tokens."""
    labels: dict[str, int]
    """How often each label is to be answered."""


def dry_run(config: RunConfig, data: Path | None) -> tuple[list[Shown], dict[Split, Lengths]]:
    """Return the first training examples as the model meets them, and the lengths of each split.

    Raises:
        TunewiseError: as the run itself would, before its first update.
    """
    check_metrics(config)
    source = find_folder(config.model)
    tokenizer, shape = Tokenizer.load(source), shape_of(config.model)
    examples = {split: config.task.examples(split, data) for split in SPLITS}
    # For what the method asks for and the model does not have: shapes alone tell.
    count_parameters(config, config.task.resolve(examples["train"]))
    encoded = {split: encode(config, split, examples[split], shape, tokenizer) for split in SPLITS}
    by_id = {example.id: example for example in examples["train"]}
    shown = [
        _shown(by_id[sequence.example_id], sequence, tokenizer)
        for sequence in encoded["train"].sequences[:NUM_SHOWN]
    ]
    return shown, {split: _lengths(examples[split], encoded[split]) for split in SPLITS}


def _shown(example: Example, sequence: Encoded, tokenizer: Tokenizer) -> Shown:
    scored = [False, *(targets_of(sequence)[:-1] != IGNORE)]  # (T,): is this token predicted?
    bounds = [0, *(i for i in range(1, len(scored)) if scored[i] != scored[i - 1]), len(scored)]
    pieces = [
        Piece(_text(sequence.ids[start:stop].tolist(), tokenizer), bool(scored[start]))
        for start, stop in pairwise(bounds)
    ]
    return Shown(example.id, pieces, example.target if sequence.label is not None else "")


def _text(ids: list[int], tokenizer: Tokenizer) -> str:
    """Return the text of ids; those of a soft prompt, past the vocabulary, have none."""
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
