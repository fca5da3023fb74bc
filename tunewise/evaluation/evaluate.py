"""Every example scored once: what the model answers, and how likely it finds what was expected."""

from collections.abc import Sequence

import torch

from tunewise.data.encode import IGNORE, Encoded
from tunewise.data.example import Example
from tunewise.data.packing import pack
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.models.scoring import score


@torch.inference_mode()
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
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    # Neighbours of equal length are computed together, so the whole split is packed by length.
    by_length = sorted(sequences, key=lambda sequence: len(sequence.ids))
    totals = {example.id: 0.0 for example in examples}
    counts = {example.id: 0 for example in examples}
    answers: dict[str, int] = {}
    first = 0
    for batch in pack(by_length, tokens_per_pass):
        batch = batch.to(device)
        scored = batch.targets != IGNORE  # (N,)
        hidden = model.hidden(batch.tokens, batch.positions, batch.segments)[scored]  # (M, D)
        log_likelihoods, likeliest = score(model, hidden, batch.targets[scored])  # (M,), (M,)
        segments = batch.segments[scored].tolist()
        for segment, log_likelihood, answer in zip(
            segments, log_likelihoods.tolist(), likeliest.tolist(), strict=True
        ):
            sequence = by_length[first + segment]
            totals[sequence.example_id] += log_likelihood
            counts[sequence.example_id] += 1
            answers[sequence.example_id] = answer
        first += int(batch.segments.max()) + 1
    model.train(training)
    return [
        Prediction(
            example_id=example.id,
            expected=example.target if example.choices else "",
            predicted=example.choices[answers[example.id]] if example.choices else "",
            log_likelihood=totals[example.id],
            num_scored=counts[example.id],
        )
        for example in examples
    ]
