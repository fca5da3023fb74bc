"""Statistics of a study: intervals over seeds and examples, paired tests, Holm's correction.

Two things are random when a set-up is measured: its training (the seed) and the choice of test
examples. The set-ups of a study answer the same examples, so differences are paired by example.

Shapes: E examples, B resamples of them, S seeds, K sums from which a metric is computed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from tunewise.metrics import Metric, Prediction

Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 2000
LEVEL = 0.95
"""Confidence of all intervals."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval; the ends are nan where there is no interval."""

    mean: float
    low: float = math.nan
    high: float = math.nan

    def clip(self, bounds: tuple[float, float]) -> "Interval":
        """Return the interval with its ends moved into the bounds."""
        return Interval(self.mean, max(self.low, bounds[0]), min(self.high, bounds[1]))

    def negate(self) -> "Interval":
        """Return the interval of the difference in the opposite order."""
        return Interval(-self.mean, -self.high, -self.low)


@dataclass(frozen=True)
class Measurement:
    """One metric of one set-up, by seed and by resample of the test examples."""

    values: Floats
    """(S,) values on the whole test split."""
    resampled: Floats
    """(B,) means over seeds on each resample; the resamples are the same for all set-ups."""
    num_examples: int

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(self.values.mean())

    @property
    def seed_variance(self) -> float:
        """Variance of the mean over seeds, s² / S; 0 with one seed."""
        count = len(self.values)
        return float(self.values.var(ddof=1) / count) if count > 1 else 0.0


def measure(metric: Metric, predictions: Sequence[Sequence[Prediction]]) -> Measurement:
    """Return a metric of one set-up from the predictions of each seed, on the same examples."""
    num_examples = len(predictions[0])
    generator = np.random.default_rng(0)  # no run's seed, so all set-ups see the same resamples
    weights = [1 / num_examples] * num_examples
    counts = generator.multinomial(num_examples, weights, NUM_RESAMPLES)  # (B, E)
    values, resampled = [], []
    for of_seed in predictions:
        statistics = metric.statistics(of_seed)  # (E, K)
        values.append(metric.value(statistics.sum(axis=0)))
        resampled.append([metric.value(total) for total in counts @ statistics])
    return Measurement(np.array(values), np.mean(resampled, axis=0), num_examples)


def interval_over_seeds(
    values: Floats, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """Return the mean of some values and its interval by Student's t, clipped to the bounds."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(mean)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * values.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half).clip(bounds)


@dataclass(frozen=True)
class Term:
    """One term of a weighted sum of means."""

    weight: float
    measurement: Measurement


def combine(terms: Sequence[Term]) -> tuple[Interval, float]:
    """Return a weighted sum of set-ups' means with its interval, and the p-value of it being 0.

    The weights of a difference are 1 and -1; those of an average over k set-ups are 1/k.

    If every set-up has one seed, interval and p-value are those of the percentile bootstrap over
    examples (Efron and Tibshirani, 1993, chapters 13 and 16). Otherwise two variances are added:
    that of the resamples, and s² / S of each set-up's S seeds; Student's t has the degrees of
    freedom of Welch and Satterthwaite.
    """
    mean = sum(term.weight * term.measurement.mean for term in terms)
    resampled = np.sum([t.weight * t.measurement.resampled for t in terms], axis=0)  # (B,)
    if all(len(term.measurement.values) == 1 for term in terms):
        low, high = np.quantile(resampled, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        below, above = (resampled <= 0).sum(), (resampled >= 0).sum()
        p = min(1.0, 2 * (min(below, above) + 1) / (len(resampled) + 1))
        return Interval(mean, float(low), float(high)), float(p)
    of_examples = float(resampled.var(ddof=1))
    of_seeds = [term.weight**2 * term.measurement.seed_variance for term in terms]
    variance = of_examples + sum(of_seeds)
    if variance == 0:
        return Interval(mean, mean, mean), float(mean == 0)
    # Each part of the variance, with the number of values that it was estimated from.
    parts = [(of_examples, terms[0].measurement.num_examples)]
    parts += [(v, len(t.measurement.values)) for v, t in zip(of_seeds, terms, strict=True)]
    freedom = variance**2 / sum(part**2 / (count - 1) for part, count in parts if count > 1)
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Interval(mean, mean - half, mean + half), p


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the exact p-value of two set-ups being right equally often on the same examples.

    McNemar, https://doi.org/10.1007/BF02295996: of the examples that only one of them gets right,
    each should get half.
    """
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Return p-values corrected for their number (Holm, https://www.jstor.org/stable/4615733).

    The k-th smallest of n is multiplied by n - k + 1, and raised to the one before it if smaller.
    """
    corrected: dict[tuple[str, str], float] = {}
    previous = 0.0
    for rank, (pair, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        previous = max(previous, min(1.0, p * (len(p_values) - rank)))
        corrected[pair] = previous
    return corrected
