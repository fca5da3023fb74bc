"""The learning rate rises and falls as transformers' schedules do, and as its definition says."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from tunewise.training.config import TrainConfig
from tunewise.training.schedule import learning_rate

THEIRS: dict[str, Callable[..., Any]] = {
    "constant": transformers.get_constant_schedule_with_warmup,
    "linear": transformers.get_linear_schedule_with_warmup,
    "cosine": transformers.get_cosine_schedule_with_warmup,
}


def rates(num_updates: int, **settings: Any) -> list[float]:
    config = TrainConfig(**({"learning_rate": 0.5} | settings))
    return [learning_rate(update, num_updates, config) for update in range(num_updates)]


@pytest.mark.parametrize("schedule", THEIRS)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("num_updates", [1, 2, 20, 41])
def test_rates_equal_those_of_transformers(schedule: str, warmup: float, num_updates: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    settings = {"num_warmup_steps": round(warmup * num_updates)}
    if schedule != "constant":
        settings["num_training_steps"] = num_updates
    scheduler = THEIRS[schedule](optimizer, **settings)
    expected = []
    for _ in range(num_updates):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    found = rates(num_updates, schedule=schedule, warmup=warmup)
    assert found == pytest.approx(expected, abs=1e-12)


def test_warmup_rises_in_a_straight_line_from_the_lowest_rate() -> None:
    found = rates(20, warmup=0.2, min_learning_rate=0.1, schedule="constant")
    assert found[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_way_down_heads_for_the_lowest_rate(schedule: str) -> None:
    found = rates(1000, warmup=0.1, min_learning_rate=0.1, schedule=schedule)
    assert max(found) == found[100] == 0.5
    assert found[100:] == sorted(found[100:], reverse=True)
    assert 0.1 <= found[-1] < 0.101
    assert found[550] == pytest.approx(0.3)  # half-way down both are half-way


def test_a_quarter_down_the_cosine() -> None:
    found = rates(1000, warmup=0.0, min_learning_rate=0.1, schedule="cosine")
    assert found[250] == pytest.approx(0.1 + 0.4 * (1 + math.sqrt(0.5)) / 2)


@pytest.mark.parametrize("schedule", THEIRS)
def test_no_rate_leaves_the_bounds(schedule: str) -> None:
    for num_updates in (1, 3, 50):
        for rate in rates(num_updates, warmup=0.3, min_learning_rate=0.2, schedule=schedule):
            assert 0.2 <= rate <= 0.5
