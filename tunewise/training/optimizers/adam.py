"""Adam (https://arxiv.org/abs/1412.6980) and AdamW (https://arxiv.org/abs/1711.05101)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.optim.adam import adam

from tunewise.training.optimizers.optimizer import Trained, UpdateRule


class _Adam(UpdateRule):
    """Steps along the mean of the gradients, over the root of the mean of their squares."""

    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Fraction of the mean of the gradients that is kept at an update."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Fraction of the mean of their squares that is kept."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root, to avoid a division by 0."""

    def update(self, trained: Sequence[Trained], rate: float, weight_decay: float) -> None:
        """Update some parameters, and their states, in place."""
        for parameter, _, state in trained:
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        adam(
            [item.parameter for item in trained],
            [item.gradient for item in trained],
            [item.state["exp_avg"] for item in trained],
            [item.state["exp_avg_sq"] for item in trained],
            [],
            [item.state["step"] for item in trained],
            fused=True,
            decoupled_weight_decay=self.kind == "adamw",
            amsgrad=False,
            beta1=self.beta1,
            beta2=self.beta2,
            lr=rate,
            weight_decay=weight_decay,
            eps=self.epsilon,
            maximize=False,
        )


class AdamW(_Adam):
    """Adam whose weight decay shrinks the weights themselves."""

    names: ClassVar[dict[str, dict[str, Any]]] = {"adamw": {}}
    kind: Literal["adamw"] = "adamw"


class Adam(_Adam):
    """Adam whose weight decay is added to the gradient."""

    names: ClassVar[dict[str, dict[str, Any]]] = {"adam": {}}
    kind: Literal["adam"] = "adam"
