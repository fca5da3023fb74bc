"""Sliced loss: logits are never held for all positions at once."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tunewise.models.language_model import LanguageModel

SLICE = 2**23
"""Logits that are held at once: 16 MiB in bf16, 166 positions of GPT-2's vocabulary."""

TILE = 2**19
"""Logits that are converted to fp32 at once: 2 MiB, which fits into a processor's cache."""


def summed_loss(
    model: LanguageModel, hidden: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the sum of -log p(target) over positions, in fp32, ready for a backward pass.

    Args:
        hidden: (M, D) states of the scored positions only.
        targets: (M,) the token or label that each has to predict.
        weights: (M,) in fp32, the weight of each, of either sign; default: 1.
    """
    trained = [parameter for parameter in model.head.parameters() if parameter.requires_grad]
    loss: Tensor = _SlicedLoss.apply(model, hidden, targets, weights, *trained)  # type: ignore[no-untyped-call]  # torch has no types here
    return loss


@torch.no_grad()
def score(model: LanguageModel, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p(target) (M,) in fp32 and the likeliest token or label (M,) of each position.

    Args:
        hidden: (M, D) states of the scored positions only.
        targets: (M,) the token or label that each has to predict.
    """
    log_likelihoods, likeliest = [], []
    for start, stop in _slices(model, len(targets)):
        wanted = targets[start:stop]
        logits = model.logits(hidden[start:stop]).float()  # (S, V)
        log_likelihoods.append(-F.cross_entropy(logits, wanted, reduction="none"))
        likeliest.append(logits.argmax(-1))
    return torch.cat(log_likelihoods), torch.cat(likeliest)


@torch.no_grad()
def logits_of(model: LanguageModel, hidden: Tensor, ids: Tensor) -> Tensor:
    """Return the logits (M, C) of some ids only, in fp32.

    Args:
        hidden: (M, D) states of some positions.
        ids: (C,) tokens or labels.
    """
    parts = [
        model.logits(hidden[start:stop])[:, ids].float()
        for start, stop in _slices(model, len(hidden))
    ]
    return torch.cat(parts)


def _slices(model: LanguageModel, num_positions: int) -> Iterator[tuple[int, int]]:
    """Yield the start and stop of each slice of positions; one empty slice if there are none."""
    size = max(1, SLICE // (model.num_labels or model.config.vocabulary_size))
    for start in range(0, max(1, num_positions), size):
        yield start, min(start + size, num_positions)


class _SlicedLoss(torch.autograd.Function):
    """The summed cross-entropy whose gradient is taken in the forward pass, slice by slice.

    Each slice's logits are made, turned into their own gradient and dropped before the next
    slice's, so the backward pass has nothing left to compute but a multiplication (the idea of
    Liger Kernel's fused linear cross-entropy, https://arxiv.org/abs/2410.10989). It works with any
    output layer.
    """

    @staticmethod
    def forward(
        ctx: Any,
        model: LanguageModel,
        hidden: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        *trained: Tensor,
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        wants_hidden = ctx.needs_input_grad[1]
        hidden_gradient = torch.empty_like(hidden) if wants_hidden else None
        sums = [torch.zeros_like(parameter) for parameter in trained]
        for start, stop in _slices(model, len(targets)):
            weight = None if weights is None else weights[start:stop]
            with torch.enable_grad():
                part = hidden[start:stop].detach().requires_grad_(wants_hidden)
                loss = _LossInPlace.apply(model.logits(part), targets[start:stop], weight)  # type: ignore[no-untyped-call]
            total += loss.detach()
            inputs = [*trained, part] if wants_hidden else list(trained)
            gradients = torch.autograd.grad(loss, inputs) if inputs else ()
            for total_gradient, gradient in zip(sums, gradients, strict=False):
                total_gradient += gradient
            if hidden_gradient is not None:
                hidden_gradient[start:stop] = gradients[-1]
        ctx.gradients = hidden_gradient, sums
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, sums = ctx.gradients
        del ctx.gradients  # the products overwrite them
        hidden = None if hidden_gradient is None else hidden_gradient.mul_(grad)
        return None, hidden, None, None, *(gradient.mul_(grad) for gradient in sums)


class _LossInPlace(torch.autograd.Function):
    """The summed -log p(target) of a slice, which overwrites the logits with their gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        ctx.gradient = logits.detach()
        return _loss_and_gradient(ctx.gradient, targets, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        # The gradient of the loss itself is 1. Were the logits' given to torch.autograd.grad, that
        # would import sympy, for 0.3 s and 34 MB.
        return ctx.gradient, None, None


def _loss_and_gradient(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the summed -log p(target), and overwrite the logits with its gradient, p - [target].

    Args:
        logits: (S, V).
        targets: (S,).
        weights: (S,) factors of each position's loss and gradient; default: 1.
    """
    total = logits.new_zeros((), dtype=torch.float32)
    rows = max(1, TILE // logits.shape[-1])
    for start in range(0, len(logits), rows):
        tile, wanted = logits[start : start + rows], targets[start : start + rows, None]
        log_p = tile.float().log_softmax(-1)  # (tile, V)
        of_target = log_p.gather(-1, wanted)  # (tile, 1)
        gradient = log_p.exp_()
        gradient.scatter_add_(-1, wanted, gradient.new_full(wanted.shape, -1.0))
        if weights is not None:
            weight = weights[start : start + rows, None]  # (tile, 1)
            of_target = of_target * weight
            gradient *= weight
        total -= of_target.sum()
        tile.copy_(gradient)
    return total
