"""Optimizers: an update rule, the groups of parameters it is applied to, and its state.

The rules call PyTorch's fused kernels as functions. The classes around these functions
(`torch.optim.AdamW` and its like) import PyTorch's compiler at their first step, which costs every
run a second and 70 MB.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from tunewise.models import LanguageModel
from tunewise.settings import Settings


class Trained(NamedTuple):
    """A parameter that has a gradient, and its state."""

    parameter: Tensor
    gradient: Tensor
    state: dict[str, Tensor]
    """Empty before the parameter's first update."""


class UpdateRule(Settings, ABC):
    """The settings of an optimizer, and its rule: how a parameter changes by its gradient."""

    names: ClassVar[dict[str, dict[str, Any]]]
    """The bare names that stand for this rule, each with the settings it stands for."""
    kind: str

    @property
    def name(self) -> str | None:
        """The bare name of exactly these settings, if there is one."""
        meant = (name for name, settings in self.names.items() if self == type(self)(**settings))
        return next(meant, None)

    @model_serializer(mode="wrap")
    def _by_name(self, serialize: SerializerFunctionWrapHandler) -> str | dict[str, Any]:
        """Write a bare name if there is one, as configurations of earlier versions have it."""
        return self.name or {"kind": self.kind, **serialize(self)}

    @abstractmethod
    def update(self, trained: Sequence[Trained], rate: float, weight_decay: float) -> None:
        """Update some parameters, and their states, in place.

        Args:
            rate: the learning rate.
            weight_decay: the weight decay of these parameters.
        """


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are updated with the same settings."""

    parameters: list[nn.Parameter]
    weight_decay: float
    lr_ratio: float = 1.0
    """Their learning rate over that of the update."""


class Optimizer:
    """Updates parameters by their gradients, and keeps the state of each between updates."""

    def __init__(self, rule: UpdateRule, groups: Sequence[ParameterGroup]) -> None:
        self.rule = rule
        self.groups = tuple(groups)
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        self.states: list[dict[str, Tensor]] = [{} for _ in self.parameters]
        """The state of each parameter, by the names of `torch.optim`."""

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Make an update; a parameter without a gradient stays as it is."""
        states = dict(zip(self.parameters, self.states, strict=True))
        for group in self.groups:
            trained = [
                Trained(parameter, parameter.grad, states[parameter])
                for parameter in group.parameters
                if parameter.grad is not None
            ]
            if trained:
                self.rule.update(trained, rate * group.lr_ratio, group.weight_decay)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def load(self, states: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Copy the states of another optimizer of the same parameters, by their number."""
        for number, state in states.items():
            device = self.parameters[number].device
            self.states[number] = {name: value.to(device) for name, value in state.items()}


def build_optimizer(model: LanguageModel, rule: UpdateRule, weight_decay: float) -> Optimizer:
    """Return the optimizer of all trained parameters, each of which is made contiguous in place.

    Only matrices have weight decay. A module may have `lr_ratios`: the learning rates of its own
    parameters, by name, over that of all others.
    """
    ratios = {
        f"{path}.{name}": ratio
        for path, module in model.named_modules()
        for name, ratio in getattr(module, "lr_ratios", {}).items()
    }
    alike: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.trainable():
        # Fused steps go through a parameter and its gradient in the order of memory.
        parameter.data = parameter.data.contiguous()
        alike.setdefault((ratios.get(name, 1.0), parameter.ndim < 2), []).append(parameter)
    groups = [
        ParameterGroup(alike[ratio, is_vector], 0.0 if is_vector else weight_decay, ratio)
        for ratio, is_vector in sorted(alike)
    ]
    return Optimizer(rule, groups)
