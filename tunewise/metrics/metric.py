"""Metrics: numbers computed from predictions, each with an interval.

Shapes: E examples, S statistics of each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AliasChoices, Field

NUM_RESAMPLES = 1000

Statistics = npt.NDArray[np.float64]
"""Numbers of each example, (E, S), or their sums over examples, (S,)."""

MetricUnit = Literal["share", "fraction", "hundred", "nats", "factor"]
"""The unit of a value, by which it is shown: a share of examples (0 to 1, in per cent), a fraction
(0 to 1, as it is), a score of a hundred, nats, or a factor from 1."""


@dataclass(frozen=True)
class Prediction:
    """The model's answer to one example: enough to compute any metric again without the model."""

    id: Annotated[str, Field(validation_alias=AliasChoices("id", "example_id"))]
    """Place of the example's row, or the user's own key. Earlier versions wrote `example_id`."""
    expected: str
    predicted: str
    """The likeliest label, or the written text; empty if the task has no answer, as in language
    modelling."""
    log_likelihood: float
    """log p(expected), natural logarithm, summed over its scored tokens."""
    num_scored: int
    """Number of tokens (or labels: one) that were scored."""
    prompt: str = ""
    """The prompt of a written text."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """The probability of each label; empty for a written text."""
    row: int | None = None
    """Number of the example's row in its file, from 0; None in files of earlier versions."""


@dataclass(frozen=True)
class Metric:
    """A number computed from predictions, by sums of statistics over examples.

    Counting an example is slow, adding counts is fast: so an interval, which is a thousand
    values on resampled examples, counts each example once.
    """

    name: str
    higher_is_better: bool
    of: Literal["label", "likelihood", "text"]
    """The part of a prediction that it is computed from; for `text` the model has to write it."""
    unit: MetricUnit
    statistics: Callable[[Sequence[Prediction]], Statistics]
    """Returns the statistics of each example, (E, S)."""
    value: Callable[[Statistics], float]
    """Returns the metric from the sums over examples, (S,)."""
    description: str
    bounds: tuple[float, float] = (0.0, math.inf)
    """The smallest and the largest possible value."""
    is_right: Callable[[Prediction], bool] | None = None
    """Returns whether an example is right, if the value is the share of right ones: two such shares
    are compared by McNemar's test."""

    def compute(self, predictions: Sequence[Prediction]) -> float:
        """Return the value over all predictions."""
        return self.value(self.statistics(predictions).sum(axis=0))

    def better(self, value: float, than: float) -> bool:
        """Return whether a value beats another; one that is not finite never does."""
        if not (math.isfinite(value) and math.isfinite(than)):
            return math.isfinite(value)
        return value > than if self.higher_is_better else value < than

    def check(self) -> None:
        """Raise ConfigError, naming the extra, if it needs a library that is not installed.

        So this is known before a model is trained for hours.
        """
        self.compute([Prediction("check", "a", "a", -1.0, 1)])


def with_count(values: Sequence[float]) -> Statistics:
    """Return the statistics (E, 2) for `mean`: each value, and 1."""
    return np.array([(value, 1.0) for value in values])


def mean(totals: Statistics) -> float:
    """Return the mean, from the sum of the values and their number."""
    return float(totals[0] / totals[1])


def interval(metric: Metric, predictions: Sequence[Prediction], seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a metric over examples."""
    return bootstrap(metric.statistics(predictions), metric.value, seed)


def bootstrap(
    statistics: Statistics, value: Callable[[Statistics], float], seed: int
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a value over examples.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13: the value is
    computed on 1,000 samples drawn from the examples with replacement. It covers the choice of
    test examples, not the randomness of training, which takes several seeds.
    """
    generator = np.random.default_rng(seed)
    number = len(statistics)
    values = []
    for _ in range(NUM_RESAMPLES):
        draw = generator.integers(number, size=number)
        times = np.bincount(draw, minlength=number)  # (E,): how often each example is drawn
        values.append(value(times @ statistics))  # (E,) @ (E, S) -> (S,)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
