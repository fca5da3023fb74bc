"""The best state seen: what is kept when training is over."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunewise.metrics import Metric
from tunewise.models import LanguageModel
from tunewise.training.loop import Step


@dataclass
class BestState:
    """The trained weights at the best evaluation so far."""

    metric: Metric
    value: float = math.nan
    step: int = 0
    epoch: int = 0
    evaluations_since: int = 0
    """How many evaluations have passed since without a better value."""
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @torch.no_grad()
    def offer(self, model: LanguageModel, value: float, step: Step | None) -> bool:
        """Keep the model's trained weights if the value is the best so far; say whether it is.

        Args:
            step: the update after which it was measured; None before any.
        """
        if self.weights and not self.metric.better(value, than=self.value):
            self.evaluations_since += 1
            return False
        self.value = value
        self.step, self.epoch = (step.number, step.epoch) if step is not None else (0, 0)
        self.evaluations_since = 0
        self.weights = {name: p.detach().clone() for name, p in model.trainable()}
        return True

    @torch.no_grad()
    def restore(self, model: LanguageModel) -> None:
        """Put the kept weights back."""
        for name, parameter in model.trainable():
            parameter.copy_(self.weights[name])
