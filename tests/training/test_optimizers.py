"""Our optimizers make the updates of the classes of PyTorch, bit for bit."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunewise.training.config import TrainConfig
from tunewise.training.optimizers import NAMES, OPTIMIZERS
from tunewise.training.optimizers.adam import Adam, AdamW
from tunewise.training.optimizers.optimizer import Optimizer, ParameterGroup, UpdateRule
from tunewise.training.optimizers.sgd import SGD

RULES: list[UpdateRule] = [
    AdamW(),
    AdamW(beta1=0.8, beta2=0.95, epsilon=1e-4),
    Adam(),
    Adam(beta1=0.0, beta2=0.99),
    SGD(),
    SGD(momentum=0.9),
    SGD(momentum=0.5),
]
RATES = (0.1, 0.05, 0.2, 0.01)


def name_of(rule: UpdateRule) -> str:
    return repr(rule)


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3), (3, 5), (5,))
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in shapes]


def ours(rule: UpdateRule) -> Optimizer:
    first, second, third = parameters()
    return Optimizer(
        rule, [ParameterGroup([first, second], 0.1), ParameterGroup([third], 0.0, lr_ratio=16.0)]
    )


def theirs(rule: UpdateRule) -> torch.optim.Optimizer:
    first, second, third = parameters()
    groups = [{"params": [first, second], "weight_decay": 0.1}, {"params": [third]}]
    no_decay: dict[str, Any] = {"lr": 0.0, "weight_decay": 0.0, "fused": True}
    match rule:
        case AdamW():
            betas = rule.beta1, rule.beta2
            return torch.optim.AdamW(groups, betas=betas, eps=rule.epsilon, **no_decay)
        case Adam():
            betas = rule.beta1, rule.beta2
            return torch.optim.Adam(groups, betas=betas, eps=rule.epsilon, **no_decay)
        case SGD():
            return torch.optim.SGD(groups, momentum=rule.momentum, **no_decay)
    raise AssertionError(f"{rule.kind} is compared with nothing")


def gradients(number: int) -> list[Tensor | None]:
    """Return the gradients of an update; one parameter gets none in the third."""
    generator = torch.Generator().manual_seed(1 + number)
    found = [torch.randn(p.shape, generator=generator) for p in parameters()]
    return [found[0], None if number == 2 else found[1], found[2]]


def update(optimizer: Optimizer, number: int) -> None:
    for parameter, gradient in zip(optimizer.parameters, gradients(number), strict=True):
        parameter.grad = gradient
    optimizer.step(RATES[number])


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_updates_are_those_of_the_classes_of_pytorch(rule: UpdateRule) -> None:
    optimizer, other = ours(rule), theirs(rule)
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
    late, never_before = ours(SGD(momentum=0.9)), ours(SGD(momentum=0.9))
    update(late, 2)  # the second parameter gets none
    update(late, 1)
    update(never_before, 1)
    assert torch.equal(late.parameters[1], never_before.parameters[1])


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_another_goes_on_with_its_states(rule: UpdateRule) -> None:
    one, other = ours(rule), ours(rule)
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
    optimizer = ours(SGD())
    update(optimizer, 1)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in optimizer.parameters)


def test_every_optimizer_is_compared() -> None:
    assert {rule.kind for rule in RULES} == OPTIMIZERS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_bare_name_is_written_as_it_was_given(name: str) -> None:
    config = TrainConfig.model_validate({"optimizer": name})
    assert config.optimizer.name == name
    for written in (config.model_dump(), config.model_dump(mode="json", exclude_defaults=True)):
        assert written.get("optimizer", "adamw") == name
        assert TrainConfig.model_validate(written) == config


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.name is None], ids=name_of)
def test_other_settings_are_written_with_their_kind(rule: UpdateRule) -> None:
    config = TrainConfig.model_validate({"optimizer": rule})
    written = config.model_dump(mode="json", exclude_defaults=True)
    assert written["optimizer"]["kind"] == rule.kind
    assert config.model_dump()["optimizer"].keys() == type(rule).model_fields.keys()
    assert TrainConfig.model_validate(written) == config
