"""The optimizers: PyTorch's fused kernels, called as functions.

The classes around these functions (`torch.optim.AdamW` and its like) import PyTorch's compiler at
their first step, which costs every run a second and 70 MB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from tunewise.methods.method import Wrapped
from tunewise.models import LanguageModel
from tunewise.training.config import OptimizerKind, TrainConfig

MOMENTUM = 0.9
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam and AdamW, as their papers have them (https://arxiv.org/abs/1412.6980)."""


@dataclass(frozen=True)
class Group:
    """Parameters that are updated alike."""

    parameters: list[nn.Parameter]
    weight_decay: float
    lr_ratio: float = 1.0
    """Their learning rate over that of the update."""


class _Trained(NamedTuple):
    """A parameter that has a gradient, and its state."""

    parameter: Tensor
    gradient: Tensor
    state: dict[str, Tensor]


class Optimizer:
    """Updates parameters by their gradients, and keeps what an update needs of those before it."""

    def __init__(self, kind: OptimizerKind, groups: Sequence[Group]) -> None:
        self.kind = kind
        self.groups = tuple(groups)
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        self.states: list[dict[str, Tensor]] = [{} for _ in self.parameters]
        """Of each parameter, by the names of `torch.optim`; empty before its first update."""

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Make an update; a parameter without a gradient stays as it is."""
        states = dict(zip(self.parameters, self.states, strict=True))
        for group in self.groups:
            trained = [
                _Trained(parameter, parameter.grad, states[parameter])
                for parameter in group.parameters
                if parameter.grad is not None
            ]
            if trained:
                update = _sgd if self.kind in ("sgd", "sgd_momentum") else _adam
                update(self.kind, trained, rate * group.lr_ratio, group.weight_decay)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def load(self, states: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Take on the states of another optimizer of the same parameters, by their number."""
        for number, state in states.items():
            device = self.parameters[number].device
            self.states[number] = {name: value.to(device) for name, value in state.items()}


def _sgd(
    kind: OptimizerKind, trained: Sequence[_Trained], rate: float, weight_decay: float
) -> None:
    for parameter, _, state in trained:
        if not state and kind == "sgd_momentum":
            state["momentum_buffer"] = torch.zeros_like(parameter)
    sgd(
        [one.parameter for one in trained],
        [one.gradient for one in trained],
        [one.state.get("momentum_buffer") for one in trained],
        fused=True,
        weight_decay=weight_decay,
        momentum=MOMENTUM if kind == "sgd_momentum" else 0.0,
        lr=rate,
        dampening=0.0,
        nesterov=False,
        maximize=False,
    )


def _adam(
    kind: OptimizerKind, trained: Sequence[_Trained], rate: float, weight_decay: float
) -> None:
    for parameter, _, state in trained:
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
    adam(
        [one.parameter for one in trained],
        [one.gradient for one in trained],
        [one.state["exp_avg"] for one in trained],
        [one.state["exp_avg_sq"] for one in trained],
        [],
        [one.state["step"] for one in trained],
        fused=True,
        decoupled_weight_decay=kind == "adamw",
        amsgrad=False,
        beta1=BETA1,
        beta2=BETA2,
        lr=rate,
        weight_decay=weight_decay,
        eps=EPSILON,
        maximize=False,
    )


def build_optimizer(model: LanguageModel, config: TrainConfig) -> Optimizer:
    """Return the optimizer of everything trainable.

    Weight decay is for matrices. A layer that a method has wrapped may multiply the learning rates
    of its parameters (`Wrapped.lr_ratios`).
    """
    ratios = {
        f"{path}.{name}": ratio
        for path, module in model.named_modules()
        if isinstance(module, Wrapped)
        for name, ratio in module.lr_ratios.items()
    }
    alike: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.trainable():
        # Fused steps go through a parameter and its gradient in the order of memory.
        parameter.data = parameter.data.contiguous()
        alike.setdefault((ratios.get(name, 1.0), parameter.ndim < 2), []).append(parameter)
    groups = [
        Group(alike[ratio, is_vector], 0.0 if is_vector else config.weight_decay, ratio)
        for ratio, is_vector in sorted(alike)
    ]
    return Optimizer(config.optimizer, groups)
