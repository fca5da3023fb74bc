"""What must hold for every metric, whatever it measures."""

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from tunewise.metrics import METRICS, Metric, Prediction, interval
from tunewise.metrics import metric as metric_file

ANSWERS = (
    "a bad film from the first scene",
    "neither fair nor foul, only long",
    "good fun for all of the family",
)
"""Labels, and texts long enough for every n-gram."""
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def predictions(share_right: float, number: int = 60) -> list[Prediction]:
    """Return predictions of which about a share is right, and as likely as that."""
    chance = random.Random(5)
    answers = []
    for index in range(number):
        expected = chance.choice(ANSWERS)
        right = chance.random() < share_right
        predicted = expected if right else chance.choice([x for x in ANSWERS if x != expected])
        log_likelihood = math.log(0.8 if right else 0.1)
        answers.append(Prediction(f"rows:{index}", expected, predicted, log_likelihood, 1))
    return answers


@every_metric
def test_better_predictions_have_a_better_value(metric: Metric) -> None:
    good, poor = (metric.compute(predictions(share)) for share in (0.9, 0.3))
    assert metric.better(good, than=poor)
    assert not metric.better(poor, than=good)
    assert not metric.better(good, than=good)


@every_metric
@pytest.mark.parametrize("not_finite", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_wins(metric: Metric, not_finite: float) -> None:
    assert metric.better(0.5, than=not_finite)
    assert not metric.better(not_finite, than=0.5)
    assert not metric.better(not_finite, than=math.nan)


@every_metric
def test_a_value_does_not_depend_on_the_order_of_the_predictions(metric: Metric) -> None:
    answers = predictions(0.6)
    assert metric.compute(answers[::-1]) == pytest.approx(metric.compute(answers), rel=1e-12)


@every_metric
def test_a_value_does_not_depend_on_what_the_examples_are_called(metric: Metric) -> None:
    answers = predictions(0.6)
    renamed = [replace(answer, id=f"{n}") for n, answer in enumerate(answers)]
    assert metric.compute(renamed) == metric.compute(answers)


@every_metric
def test_saying_everything_twice_changes_nothing(metric: Metric) -> None:
    answers = predictions(0.6)
    assert metric.compute(answers * 2) == pytest.approx(metric.compute(answers), rel=1e-12)


@every_metric
@pytest.mark.parametrize("log_likelihood", [0.0, -1e4])
def test_a_value_is_a_number_that_json_can_hold(metric: Metric, log_likelihood: float) -> None:
    answers = [replace(answer, log_likelihood=log_likelihood) for answer in predictions(0.6)]
    json.dumps(metric.compute(answers), allow_nan=False)


@every_metric
def test_one_prediction_is_enough(metric: Metric) -> None:
    assert math.isfinite(metric.compute(predictions(1.0, number=1)))


@every_metric
def test_a_metric_is_described(metric: Metric) -> None:
    assert metric.description


@every_metric
def test_a_metric_is_computed_from_what_it_says(metric: Metric) -> None:
    answers = predictions(0.6)
    texts = [replace(a, log_likelihood=-9.0, num_scored=2) for a in answers]
    likelihoods = [replace(a, expected="", predicted="") for a in answers]
    value = metric.compute(answers)
    assert (metric.compute(texts) == value) == (metric.of != "likelihood")
    assert (metric.compute(likelihoods) == value) == (metric.of == "likelihood")


@every_metric
def test_an_interval_holds_the_value_and_is_the_same_each_time(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_file, "NUM_RESAMPLES", 100)
    answers = predictions(0.7)
    low, high = interval(metric, answers, seed=0)
    assert low < metric.compute(answers) < high
    assert interval(metric, answers, seed=0) == (low, high)
    assert interval(metric, answers, seed=1) != (low, high)


@every_metric
def test_an_interval_of_equal_predictions_is_a_point(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_file, "NUM_RESAMPLES", 10)
    answers = [Prediction(str(n), ANSWERS[0], ANSWERS[0], -0.25, 1) for n in range(20)]
    value = metric.compute(answers)
    assert interval(metric, answers, seed=0) == pytest.approx((value, value))


@every_metric
def test_an_interval_is_that_of_values_on_resampled_predictions(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_file, "NUM_RESAMPLES", 50)
    answers = predictions(0.7, number=20)  # so few that an answer is missing from some samples
    draws = np.random.default_rng(3).integers(20, size=(50, 20))
    values = [metric.compute([answers[index] for index in draw]) for draw in draws]
    assert interval(metric, answers, seed=3) == pytest.approx(np.quantile(values, (0.025, 0.975)))


@every_metric
def test_more_examples_make_a_narrower_interval(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_file, "NUM_RESAMPLES", 100)
    few, many = (interval(metric, predictions(0.7, n), seed=0) for n in (30, 480))
    assert many[1] - many[0] < 0.6 * (few[1] - few[0])
