"""Scoring: the log-likelihood of each example's targets, and the likeliest answer."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tunewise.data.encode import Encoded
from tunewise.data.example import Example
from tunewise.data.packing import Batch, pack
from tunewise.memory import is_out_of_memory
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.models.fast.loss import score
from tunewise.tally import tell_done

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """The score of a sequence: how likely its targets are."""

    log_likelihood: float
    """log p(targets), summed."""
    num_scored: int
    """Number of targets."""
    likeliest: int
    """The likeliest token, or label, in place of the last target."""
    probabilities: tuple[float, ...] = ()
    """The probability of every label, for a model with a label layer."""


class ScoredStates(NamedTuple):
    """The scored positions of a pass over some sequences."""

    hidden: Tensor
    """(M, D) the model's hidden states at these positions."""
    targets: Tensor
    """(M,) the token or label that each has to predict."""
    owners: list[int]
    """The number of the sequence that each position belongs to."""


def evaluate(
    model: LanguageModel,
    examples: Sequence[Example],
    sequences: Sequence[Encoded],
    tokens_per_pass: int,
) -> list[Prediction]:
    """Return one prediction per example, in their order.

    An example in several pieces is put together again: log-likelihoods and counts are summed.

    Args:
        sequences: the examples' tokens, each naming its example.
        tokens_per_pass: the most tokens of one forward pass; the result does not depend on it.
    """
    totals = {example.id: 0.0 for example in examples}
    counts = {example.id: 0 for example in examples}
    last: dict[str, Score] = {}
    scores = score_sequences(model, sequences, tokens_per_pass)
    for sequence, of_sequence in zip(sequences, scores, strict=True):
        totals[sequence.example_id] += of_sequence.log_likelihood
        counts[sequence.example_id] += of_sequence.num_scored
        last[sequence.example_id] = of_sequence
    return [
        Prediction(
            id=example.id,
            row=example.row,
            expected=example.target if example.choices else "",
            predicted=example.choices[last[example.id].likeliest] if example.choices else "",
            log_likelihood=totals[example.id],
            num_scored=counts[example.id],
            probabilities=dict(zip(example.choices, last[example.id].probabilities, strict=False)),
        )
        for example in examples
    ]


def score_sequences(
    model: LanguageModel, sequences: Sequence[Encoded], tokens_per_pass: int
) -> list[Score]:
    """Return the score of each sequence's targets, in their order."""
    totals = [0.0] * len(sequences)
    counts = [0] * len(sequences)
    last_likeliest = [0] * len(sequences)
    probabilities: list[tuple[float, ...]] = [()] * len(sequences)
    for states in scored_states(model, sequences, tokens_per_pass):
        log_likelihoods, likeliest = score(model, states.hidden, states.targets)  # (M,), (M,)
        for index, log_likelihood, token in zip(
            states.owners, log_likelihoods.tolist(), likeliest.tolist(), strict=True
        ):
            totals[index] += log_likelihood
            counts[index] += 1
            last_likeliest[index] = token
        if model.num_labels is not None:
            of_labels = label_probabilities(model, states.hidden).tolist()
            for index, values in zip(states.owners, of_labels, strict=True):
                probabilities[index] = tuple(values)
    columns = totals, counts, last_likeliest, probabilities
    return [Score(*values) for values in zip(*columns, strict=True)]


@torch.inference_mode()
def label_probabilities(model: LanguageModel, hidden: Tensor) -> Tensor:
    """Return the probability of every label, (M, labels) in fp32, at hidden states (M, D)."""
    return model.logits(hidden).float().softmax(-1)


def _hidden_if_it_fits(model: LanguageModel, batch: Batch) -> Tensor | None:
    """Return the hidden states of a pass; None if memory runs out and a smaller pass may fit."""
    try:
        return model.scored_hidden(batch)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or int(batch.segments.max()) == 0:
            raise
    return None


@torch.inference_mode()
def scored_states(
    model: LanguageModel, sequences: Sequence[Encoded], tokens_per_pass: int
) -> Iterator[ScoredStates]:
    """Yield the hidden states of all scored positions, pass by pass.

    If memory runs out, passes become smaller: the states are the same, up to rounding.
    """
    device = next(model.parameters()).device
    # Neighbours of equal length are computed together, so all are packed by length.
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index].ids))
    first = 0
    training = model.training
    model.eval()
    try:
        batches = pack([sequences[index] for index in order], tokens_per_pass)
        while (batch := next(batches, None)) is not None:
            batch = batch.to(device)
            hidden = _hidden_if_it_fits(model, batch)  # (M, D)
            if hidden is None:
                tokens_per_pass = batch.num_tokens // 2
                logger.warning(
                    "out of memory: from here on a pass has at most %d tokens", tokens_per_pass
                )
                batches = pack([sequences[index] for index in order[first:]], tokens_per_pass)
                continue
            owners = [order[first + segment] for segment in batch.segments[batch.scored].tolist()]
            yield ScoredStates(hidden, batch.targets[batch.scored], owners)
            count = int(batch.segments.max()) + 1
            tell_done("rows scored", count)
            first += count
    finally:
        model.train(training)
