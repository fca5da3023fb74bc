"""How likely the model finds what was expected."""

import math
from collections.abc import Sequence

from tunewise.metrics.metric import Metric, Prediction


def loss(predictions: Sequence[Prediction]) -> float:
    """Return the mean of -log p over scored tokens, in nats."""
    total = math.fsum(prediction.log_likelihood for prediction in predictions)
    return -total / sum(prediction.num_scored for prediction in predictions)


def perplexity(predictions: Sequence[Prediction]) -> float:
    """Return exp(loss), per scored token; at most e^700, which JSON can still hold."""
    return math.exp(min(loss(predictions), 700.0))


LOSS = Metric("loss", False, loss, "mean negative log-likelihood per scored token, in nats")
PERPLEXITY = Metric("perplexity", False, perplexity, "exp(loss)")
