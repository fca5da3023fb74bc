"""Intervals cover what they claim to, and tests find real differences and few others."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from tunewise.metrics import METRICS, Prediction
from tunewise.studies import statistics
from tunewise.studies.statistics import (
    Interval,
    Term,
    combine,
    holm,
    interval_over_seeds,
    mcnemar,
    measure,
)


def predictions(right: Sequence[bool]) -> list[Prediction]:
    return [
        Prediction(str(number), "a", "a" if is_right else "b", -1.0, 1)
        for number, is_right in enumerate(right)
    ]


def accuracy(*seeds: Sequence[bool]) -> statistics.Measurement:
    return measure(METRICS["accuracy"], [predictions(right) for right in seeds])


def test_the_interval_over_seeds_is_student_s() -> None:
    values = np.array([0.61, 0.64, 0.58, 0.66])
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    found = interval_over_seeds(values)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))


def test_one_seed_has_no_interval_interval_over_seeds() -> None:
    assert math.isnan(interval_over_seeds(np.array([0.5])).low)


def test_an_interval_ends_where_values_do() -> None:
    assert Interval(0.99, 0.9, 1.2).clip((0, 1)) == Interval(0.99, 0.9, 1)


def test_mcnemar_is_the_binomial_test_of_the_examples_that_differ() -> None:
    first = [True] * 8 + [False] * 2 + [True] * 50
    second = [False] * 8 + [True] * 2 + [True] * 50
    by_hand = 2 * sum(math.comb(10, k) for k in range(3)) / 2**10
    assert mcnemar(first, second) == pytest.approx(by_hand)
    assert mcnemar(second, first) == pytest.approx(by_hand)
    assert mcnemar(first, first) == 1.0


def test_holm_multiplies_the_smallest_by_their_number_and_never_sinks() -> None:
    p_values = {("a", "b"): 0.01, ("a", "c"): 0.04, ("b", "c"): 0.03, ("c", "d"): 0.005}
    corrected = holm(p_values)
    assert corrected[("c", "d")] == pytest.approx(0.02)
    assert corrected[("a", "b")] == pytest.approx(0.03)
    assert corrected[("b", "c")] == pytest.approx(0.06)
    assert corrected[("a", "c")] == pytest.approx(0.06)  # 0.04, held up by 0.06 before it
    assert holm({}) == {}


def test_the_same_answers_show_no_difference() -> None:
    right = [True, False] * 20
    for some in (accuracy(right), accuracy(right, right)):
        difference, p = combine([Term(1.0, some), Term(-1.0, some)])
        assert (difference.mean, p) == (0.0, 1.0)


def test_a_difference_is_paired_by_example() -> None:
    """Two set-ups that differ in few examples are told apart, however hard the examples are."""
    first = np.array([True, False] * 200)
    second = first.copy()
    second[:20:2] = False  # ten examples worse, none better
    difference, p = combine([Term(1.0, accuracy(first)), Term(-1.0, accuracy(second))])
    assert difference.mean == pytest.approx(10 / 400)
    assert difference.low > 0
    assert p < 0.05
    unpaired = 2 * stats.norm.sf((10 / 400) / math.sqrt(2 * 0.25 / 400))
    assert unpaired > 0.3


def test_the_resamples_are_the_same_for_all_set_ups() -> None:
    some = [True, False, True, True, False] * 10
    assert np.array_equal(accuracy(some).resampled, accuracy(some).resampled)
    difference, _ = combine([Term(1.0, accuracy(some)), Term(-1.0, accuracy(some))])
    assert difference.low == difference.high == 0


def test_seeds_that_scatter_widen_the_interval() -> None:
    steady = [[True] * 60 + [False] * 40] * 3
    scattered = [[True] * n + [False] * (100 - n) for n in (40, 60, 80)]
    calm, _ = combine([Term(1.0, accuracy(*steady))])
    wild, _ = combine([Term(1.0, accuracy(*scattered))])
    assert calm.mean == pytest.approx(wild.mean)
    assert wild.high - wild.low > 2 * (calm.high - calm.low)


def test_an_average_of_set_ups_is_that_of_their_values() -> None:
    one, two = accuracy([True] * 10), accuracy([True] * 5 + [False] * 5)
    average, _ = combine([Term(0.5, one), Term(0.5, two)])
    assert average.mean == pytest.approx(0.75)


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [1, 2, 4])
def test_set_ups_that_are_equal_are_seldom_told_apart(
    num_seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 % of false alarms are promised; a seed shifts a whole run, as training does."""
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 200)
    chance = np.random.default_rng(1)
    alarms = 0
    trials = 300
    for _ in range(trials):
        easy = chance.normal(size=150)  # of each example, shared by both set-ups
        pair = []
        for _ in range(2):
            shifts = chance.normal(scale=0.3 if num_seeds > 1 else 0.0, size=(num_seeds, 1))
            right = easy + shifts + chance.normal(size=(num_seeds, 150)) > 0
            pair.append(accuracy(*right.tolist()))
        alarms += combine([Term(1.0, pair[0]), Term(-1.0, pair[1])])[1] < 0.05
    assert alarms / trials < 0.09
