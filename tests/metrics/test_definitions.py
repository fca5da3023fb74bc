"""Each metric is its definition, on cases small enough to reckon by hand."""

import math

import pytest

from tunewise.metrics import METRICS, Prediction


def value(metric: str, predictions: list[Prediction]) -> float:
    return METRICS[metric].compute(predictions)


def labels(*pairs: tuple[str, str]) -> list[Prediction]:
    return [Prediction(str(n), *pair, -1.0, 1) for n, pair in enumerate(pairs)]


def scores(*pairs: tuple[float, int]) -> list[Prediction]:
    return [Prediction(str(n), "", "", *pair) for n, pair in enumerate(pairs)]


def test_accuracy_is_the_share_of_right_labels() -> None:
    answers = labels(("a", "a"), ("a", "b"), ("b", "b"), ("c", "b"))
    assert value("accuracy", answers) == 0.5


def test_f1_is_the_mean_over_labels() -> None:
    answers = labels(("a", "a"), ("a", "b"), ("b", "b"), ("c", "b"))
    # a: precision 1, recall 1/2; b: precision 1/3, recall 1; c: never predicted
    assert value("f1", answers) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_f1_of_the_majority_answer_is_far_below_its_accuracy() -> None:
    answers = labels(*[("ham", "ham")] * 9, ("spam", "ham"))
    assert value("accuracy", answers) == 0.9
    assert value("f1", answers) == pytest.approx((2 * 0.9 / 1.9 + 0) / 2)


def test_loss_weighs_every_scored_token_alike() -> None:
    assert value("loss", scores((-2.0, 1), (-3.0, 9))) == pytest.approx(0.5)


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices() -> None:
    answers = scores((10 * -math.log(7), 10), (3 * -math.log(7), 3))
    assert value("perplexity", answers) == pytest.approx(7.0)
