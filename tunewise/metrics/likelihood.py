"""Loss and perplexity: how likely the expected answers are to the model."""

import math
from collections.abc import Sequence

import numpy as np

from tunewise.metrics.metric import Metric, Prediction, Statistics


def _log_likelihoods(predictions: Sequence[Prediction]) -> Statistics:
    """Return each example's log-likelihood and its number of scored tokens, (E, 2)."""
    return np.array([(p.log_likelihood, float(p.num_scored)) for p in predictions])


def _loss(totals: Statistics) -> float:
    """Return the mean of -log p over scored tokens, in nats."""
    log_likelihood, num_scored = totals
    return float(-log_likelihood / num_scored)


def _perplexity(totals: Statistics) -> float:
    """Return exp(loss), per scored token; at most e^700, which JSON can still hold."""
    return math.exp(min(_loss(totals), 700.0))


LOSS = Metric(
    name="loss",
    higher_is_better=False,
    of="likelihood",
    unit="nats",
    statistics=_log_likelihoods,
    value=_loss,
    description="mean negative log-likelihood per scored token, in nats",
)
PERPLEXITY = Metric(
    name="perplexity",
    higher_is_better=False,
    of="likelihood",
    unit="factor",
    statistics=_log_likelihoods,
    value=_perplexity,
    description="exp(loss)",
)
