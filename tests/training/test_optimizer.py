"""Our optimizers make the updates of the classes of PyTorch, bit for bit."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from tunewise.training.config import OptimizerKind
from tunewise.training.optimizer import Group, Optimizer

KINDS: tuple[OptimizerKind, ...] = get_args(OptimizerKind)
RATES = (0.1, 0.05, 0.2, 0.01)


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3), (3, 5), (5,))
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in shapes]


def ours(kind: OptimizerKind) -> Optimizer:
    first, second, third = parameters()
    return Optimizer(kind, [Group([first, second], 0.1), Group([third], 0.0, lr_ratio=16.0)])


def theirs(kind: OptimizerKind) -> torch.optim.Optimizer:
    first, second, third = parameters()
    groups = [{"params": [first, second], "weight_decay": 0.1}, {"params": [third]}]
    no_decay: dict[str, Any] = {"lr": 0.0, "weight_decay": 0.0, "fused": True}
    match kind:
        case "adamw":
            return torch.optim.AdamW(groups, **no_decay)
        case "adam":
            return torch.optim.Adam(groups, **no_decay)
        case "sgd":
            return torch.optim.SGD(groups, **no_decay)
        case "sgd_momentum":
            return torch.optim.SGD(groups, momentum=0.9, **no_decay)


def gradients(number: int) -> list[Tensor | None]:
    """Of update `number`; one parameter gets none in the third."""
    generator = torch.Generator().manual_seed(1 + number)
    found = [torch.randn(p.shape, generator=generator) for p in parameters()]
    return [found[0], None if number == 2 else found[1], found[2]]


def update(optimizer: Optimizer, number: int) -> None:
    for parameter, gradient in zip(optimizer.parameters, gradients(number), strict=True):
        parameter.grad = gradient
    optimizer.step(RATES[number])


@pytest.mark.parametrize("kind", KINDS)
def test_updates_are_those_of_the_classes_of_pytorch(kind: OptimizerKind) -> None:
    optimizer, other = ours(kind), theirs(kind)
    others = [parameter for group in other.param_groups for parameter in group["params"]]
    for number, rate in enumerate(RATES):
        update(optimizer, number)
        for parameter, gradient in zip(others, gradients(number), strict=True):
            parameter.grad = gradient
        other.param_groups[0]["lr"], other.param_groups[1]["lr"] = rate, 16 * rate
        other.step()
        for one, two in zip(optimizer.parameters, others, strict=True):
            assert torch.equal(one, two)
    kept = other.state_dict()["state"]
    for number, state in enumerate(optimizer.states):
        expected = {
            name: value for name, value in kept.get(number, {}).items() if value is not None
        }
        assert set(state) == set(expected)
        for name, value in state.items():
            assert torch.equal(value, expected[name])


def test_a_parameter_may_get_its_first_gradient_late() -> None:
    late, never_before = ours("sgd_momentum"), ours("sgd_momentum")
    update(late, 2)  # the second parameter gets none
    update(late, 1)
    update(never_before, 1)
    assert torch.equal(late.parameters[1], never_before.parameters[1])


@pytest.mark.parametrize("kind", KINDS)
def test_another_goes_on_with_its_states(kind: OptimizerKind) -> None:
    one, other = ours(kind), ours(kind)
    for number in range(2):
        update(one, number)
    with torch.no_grad():
        for source, target in zip(one.parameters, other.parameters, strict=True):
            target.copy_(source)
    copied = ({name: value.clone() for name, value in state.items()} for state in one.states)
    other.load({number: state for number, state in enumerate(copied) if state})
    for optimizer in (one, other):
        for number in range(2, 4):
            update(optimizer, number)
    for first, second in zip(one.parameters, other.parameters, strict=True):
        assert torch.equal(first, second)


def test_gradients_are_forgotten() -> None:
    optimizer = ours("sgd")
    update(optimizer, 1)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in optimizer.parameters)
