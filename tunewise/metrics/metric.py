"""What a metric is, what it is computed from, and how sure it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Prediction:
    """The answer to one example: enough to compute any metric again without the model."""

    example_id: str
    expected: str
    predicted: str
    """The likeliest label; empty where nothing is answered, as in plain language modelling."""
    log_likelihood: float
    """log p(expected), natural logarithm, summed over its scored tokens."""
    num_scored: int
    """How many tokens (or labels: one) were scored."""


@dataclass(frozen=True)
class Metric:
    """A number computed from predictions."""

    name: str
    higher_is_better: bool
    compute: Callable[[Sequence[Prediction]], float]
    description: str

    def better(self, value: float, than: float) -> bool:
        """Return whether a value beats another; anything beats a value that is not a number."""
        if than != than:
            return value == value
        return value > than if self.higher_is_better else value < than


def interval(metric: Metric, predictions: Sequence[Prediction], seed: int) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a metric over examples.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13: the metric is
    computed on 1,000 samples drawn from the predictions with replacement. It covers the choice of
    test examples, not the chance in training, which takes several seeds.
    """
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(predictions), size=(NUM_RESAMPLES, len(predictions)))
    values = [metric.compute([predictions[index] for index in draw]) for draw in draws]
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
