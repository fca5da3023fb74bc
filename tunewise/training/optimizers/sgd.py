"""Stochastic gradient descent, with or without momentum."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.optim.sgd import sgd

from tunewise.training.optimizers.optimizer import Trained, UpdateRule


class SGD(UpdateRule):
    """Steps against the gradient, or against a running sum of gradients."""

    names: ClassVar[dict[str, dict[str, Any]]] = {"sgd": {}, "sgd_momentum": {"momentum": 0.9}}
    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the running sum that is kept at an update; 0 for none. `sgd_momentum` is 0.9."""

    def update(self, trained: Sequence[Trained], rate: float, weight_decay: float) -> None:
        """Update some parameters, and their states, in place."""
        for parameter, _, state in trained:
            if not state and self.momentum:
                state["momentum_buffer"] = torch.zeros_like(parameter)
        sgd(
            [item.parameter for item in trained],
            [item.gradient for item in trained],
            [item.state.get("momentum_buffer") for item in trained],
            fused=True,
            weight_decay=weight_decay,
            momentum=self.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
