"""The best state of a training run: the trained weights at its best evaluation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunewise.errors import TrainingError
from tunewise.metrics import Metric
from tunewise.models import LanguageModel
from tunewise.training.loop import Step


@dataclass
class BestState:
    """The trained weights at the best evaluation so far, and its metrics."""

    metric: Metric
    """The metric that decides."""
    value: float = math.nan
    """The best value of that metric; nan as long as no evaluation has had a finite one."""
    metrics: dict[str, float] = field(default_factory=dict)
    """All metrics of the best evaluation."""
    step: int = 0
    epoch: int = 0
    evaluations_since: int = 0
    """Number of evaluations in a row without a better value."""
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @torch.no_grad()
    def keep_if_better(
        self, model: LanguageModel, metrics: Mapping[str, float], step: Step | None
    ) -> bool:
        """Keep the model's trained weights if they are the best so far, and return whether.

        Args:
            metrics: the metrics of an evaluation, among them the one that decides.
            step: the update after which it was evaluated; None before any.
        """
        value = metrics[self.metric.name]
        if not self.metric.better(value, than=self.value):
            self.evaluations_since += 1
            return False
        self.value, self.metrics = value, dict(metrics)
        self.step, self.epoch = (step.number, step.epoch) if step is not None else (0, 0)
        self.evaluations_since = 0
        self.weights = {name: p.detach().clone() for name, p in model.trainable()}
        return True

    @torch.no_grad()
    def restore(self, model: LanguageModel) -> None:
        """Put the kept weights back.

        Raises:
            TrainingError: if no evaluation has had a finite value.
        """
        if math.isnan(self.value):
            raise TrainingError(
                f"no evaluation had a finite {self.metric.name}, so there is no best state; try a "
                "lower train.learning_rate, or another train.metric"
            )
        for name, parameter in model.trainable():
            parameter.copy_(self.weights[name])
