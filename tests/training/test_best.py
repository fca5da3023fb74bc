"""What is kept when training is over is the best state, not the last."""

import math
from collections.abc import Callable

import pytest
import torch

from tunewise.errors import TrainingError
from tunewise.metrics import METRICS
from tunewise.models import LanguageModel
from tunewise.training.best import BestState
from tunewise.training.loop import Step

NewModel = Callable[..., LanguageModel]


def step(number: int) -> Step:
    return Step(number, (number + 1) // 2, 1.0, 10, 5, 0.1, 1.0, 0.1)


def keep_all(best: BestState, model: LanguageModel, values: list[float]) -> list[bool]:
    """Make a state per value; the final norm's first weight says which state it is."""
    answers = []
    for number, value in enumerate(values, start=1):
        with torch.no_grad():
            model.get_parameter("final_norm.weight").fill_(float(number))
        answers.append(best.keep_if_better(model, {best.metric.name: value}, step(number)))
    return answers


@pytest.mark.parametrize(
    ("metric", "values", "kept"),
    [
        ("accuracy", [0.5, 0.9, 0.7], 2),
        ("accuracy", [0.5, 0.5, 0.5], 1),  # the first of equals
        ("accuracy", [0.9, 0.5, 0.7], 1),
        ("loss", [2.0, 1.0, 3.0], 2),
        ("loss", [3.0, 2.0, 1.0], 3),
        ("loss", [math.nan, 2.0, math.nan], 2),
        ("loss", [math.inf, -math.inf, 2.0], 3),
        ("accuracy", [math.nan, 0.0], 2),
    ],
)
def test_the_best_state_is_restored(
    new_model: NewModel, metric: str, values: list[float], kept: int
) -> None:
    model, best = new_model(), BestState(METRICS[metric])
    keep_all(best, model, values)
    best.restore(model)
    assert set(model.get_parameter("final_norm.weight").tolist()) == {float(kept)}
    assert (best.step, best.epoch) == (kept, step(kept).epoch)
    assert best.value == values[kept - 1]
    assert best.metrics[metric] is values[kept - 1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_without_a_finite_value_there_is_no_best_state(
    new_model: NewModel, metric: str, value: float
) -> None:
    best, model = BestState(METRICS[metric]), new_model()
    assert keep_all(best, model, [value, value]) == [False, False]
    assert best.evaluations_since == 2
    with pytest.raises(TrainingError, match=f"no evaluation had a finite {metric}"):
        best.restore(model)


def test_evaluations_since_the_best_are_counted(new_model: NewModel) -> None:
    best = BestState(METRICS["accuracy"])
    answers = keep_all(best, new_model(), [0.5, 0.4, 0.6, 0.6, 0.1])
    assert answers == [True, False, True, False, False]
    assert best.evaluations_since == 2


def test_only_what_is_trained_is_kept_and_put_back(new_model: NewModel) -> None:
    model, best = new_model(), BestState(METRICS["accuracy"])
    model.requires_grad_(False)
    model.final_norm.requires_grad_(True)
    keep_all(best, model, [0.9, 0.1])
    assert set(best.weights) == {"final_norm.weight", "final_norm.bias"}
    frozen = model.get_parameter("blocks.0.attention.query.weight")
    with torch.no_grad():
        frozen.fill_(3.0)
    best.restore(model)
    assert torch.equal(frozen, torch.full_like(frozen, 3.0))
