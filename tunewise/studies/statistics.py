"""How sure a difference is: intervals over seeds and examples, paired tests, Holm's correction.

Two things are left to chance when a set-up is measured: its training (the seed) and the test
examples. Set-ups of a study answer the same examples, so their differences are paired by example.

Shapes: E examples, B resamples of them, S seeds.
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


@dataclass(frozen=True)
class Estimate:
    """A number and the interval it lies in with 95 % confidence; no interval is not a number."""

    mean: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Scores:
    """One metric of one set-up: a value per seed, and what resampling the examples makes of it."""

    values: Floats
    """(S,) on the whole test split."""
    resampled: Floats
    """(B,) the mean over seeds on each resample; the resamples are the same for all set-ups."""
    num_examples: int

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(self.values.mean())

    @property
    def seed_variance(self) -> float:
        """Of the mean over seeds, s² / S; 0 where one seed shows nothing of it."""
        count = len(self.values)
        return float(self.values.var(ddof=1) / count) if count > 1 else 0.0


def scores(metric: Metric, predictions: Sequence[Sequence[Prediction]]) -> Scores:
    """Return a metric of one set-up from the predictions of each seed, on the same examples."""
    number = len(predictions[0])
    generator = np.random.default_rng(0)  # of no run's seed: all set-ups see the same resamples
    times = generator.multinomial(number, [1 / number] * number, NUM_RESAMPLES)  # (B, E)
    values, resampled = [], []
    for some in predictions:
        statistics = metric.statistics(some)  # (E, K)
        values.append(metric.value(statistics.sum(axis=0)))
        resampled.append([metric.value(total) for total in times @ statistics])
    return Scores(np.array(values), np.mean(resampled, axis=0), number)


def over_seeds(values: Floats, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return the mean of some values and its interval by Student's t, cut to what is possible."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Estimate(mean)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * values.std(ddof=1) / math.sqrt(count))
    return cut(Estimate(mean, mean - half, mean + half), bounds)


def cut(estimate: Estimate, bounds: tuple[float, float]) -> Estimate:
    """Return an estimate whose interval is cut to the values that are possible."""
    return Estimate(estimate.mean, max(estimate.low, bounds[0]), min(estimate.high, bounds[1]))


def combined(parts: Sequence[tuple[float, Scores]]) -> tuple[Estimate, float]:
    """Return a weighted sum of set-ups' means with its interval, and the p-value of its being 0.

    The weights of a difference are 1 and -1; those of an average over k set-ups are 1/k.

    With one seed everywhere, interval and p-value are the percentile bootstrap's over examples
    (Efron and Tibshirani, 1993, chapters 13 and 16). With more, the variances of both chances are
    added: that of the resamples, and s² / S of each set-up's seeds; the degrees of freedom of
    Student's t are Welch and Satterthwaite's.
    """
    mean = sum(weight * some.mean for weight, some in parts)
    resampled = np.sum([weight * some.resampled for weight, some in parts], axis=0)  # (B,)
    seeds = [weight**2 * some.seed_variance for weight, some in parts]
    if all(len(some.values) == 1 for _, some in parts):
        low, high = np.quantile(resampled, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        below, above = (resampled <= 0).sum(), (resampled >= 0).sum()
        p = min(1.0, 2 * (min(below, above) + 1) / (len(resampled) + 1))
        return Estimate(mean, float(low), float(high)), float(p)
    examples = float(resampled.var(ddof=1))
    variance = examples + sum(seeds)
    if variance == 0:
        return Estimate(mean, mean, mean), float(mean == 0)
    freedom = variance**2 / sum(
        part**2 / (count - 1)
        for part, count in [
            (examples, parts[0][1].num_examples),
            *((v, len(some.values)) for v, (_, some) in zip(seeds, parts, strict=True)),
        ]
        if count > 1
    )
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Estimate(mean, mean - half, mean + half), p


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the exact p-value of two set-ups being right equally often on the same examples.

    McNemar, https://doi.org/10.1007/BF02295996: of the examples that just one of them gets right,
    half should be the first's.
    """
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Return p-values corrected for their number (Holm, https://www.jstor.org/stable/4615733).

    The k-th smallest of n is multiplied by n - k + 1, and is no smaller than those before it.
    """
    corrected: dict[tuple[str, str], float] = {}
    least = 0.0
    for rank, (pair, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, p * (len(p_values) - rank)))
        corrected[pair] = least
    return corrected
