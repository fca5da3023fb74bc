"""The base class of objectives, and a loss from any formula of log-likelihoods."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, Unit
from tunewise.models import LanguageModel
from tunewise.models.fast.loss import score, summed_loss
from tunewise.settings import Settings


class Objective(Settings, ABC):
    """The quantity that an update reduces, computed from its sequences."""

    kind: str

    @model_serializer(mode="wrap")
    def _by_name(self, serialize: SerializerFunctionWrapHandler) -> str | dict[str, Any]:
        """Write the bare kind where all settings are the defaults."""
        is_default = self == type(self)()  # type: ignore[call-arg]  # each has its own kind
        return self.kind if is_default else {"kind": self.kind, **serialize(self)}

    def prepare(
        self, model: LanguageModel, sequences: Sequence[Encoded], tokens_per_pass: int
    ) -> list[Encoded]:
        """Return the training sequences with values computed once, before the first update.

        An objective that compares the model with its initial state runs the model here, before it
        is trained, and keeps the results in a subclass of `Encoded`.
        """
        return list(sequences)

    def units(self, sequences: Sequence[Encoded]) -> list[Unit]:
        """Return the sequences in units that stay together in an update, a pass and a process.

        `train.batch_size` counts units. By default each sequence is one unit.
        """
        return [(sequence,) for sequence in sequences]

    @abstractmethod
    def count(self, units: Sequence[Unit]) -> int:
        """Return the number by which the summed loss of an update is divided."""

    @abstractmethod
    def summed_loss(
        self, model: LanguageModel, hidden: Tensor, batch: Batch, sequences: Sequence[Encoded]
    ) -> Tensor:
        """Return the loss of one pass in fp32, summed over its units, ready for a backward pass.

        Args:
            hidden: (M, D) states of the batch's scored positions.
            batch: the packed sequences, on the model's device.
            sequences: the sequences of the batch, whole units in order; `batch.segments` has their
                numbers.
        """


def loss_of_likelihoods(
    model: LanguageModel, hidden: Tensor, targets: Tensor, formula: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return a formula of log p(target), ready for a backward pass, with logits in slices only.

    By the chain rule the gradient of any f(log p) is that of a cross-entropy in which position m
    has the weight -df / d(log p_m). So log p is computed without a gradient, the weights come from
    the formula alone, and the loss in slices does the rest.

    Args:
        hidden: (M, D) states of the scored positions only.
        targets: (M,) the token that each has to predict.
        formula: returns one number from the log-likelihoods, (M,) in fp32.
    """
    log_likelihoods, _ = score(model, hidden, targets)
    log_likelihoods.requires_grad_()
    with torch.enable_grad():
        value = formula(log_likelihoods)
    (slopes,) = torch.autograd.grad(value, log_likelihoods)
    weighted = summed_loss(model, hidden, targets, weights=-slopes)
    return weighted + (value.detach() - weighted.detach())
