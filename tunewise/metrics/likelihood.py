"""How likely the model finds what was expected."""

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
    "loss",
    False,
    "likelihood",
    _log_likelihoods,
    _loss,
    "mean negative log-likelihood per scored token, in nats",
)
PERPLEXITY = Metric("perplexity", False, "likelihood", _log_likelihoods, _perplexity, "exp(loss)")
