"""Hidden states against targets, in slices: logits are never held for all positions at once."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tunewise.models.language_model import LanguageModel

SLICE = 2**24
"""How many logits are held at once: 64 MiB in fp32, 333 positions of GPT-2's vocabulary."""


def summed_loss(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of -log p(target) over positions, in fp32, ready for a backward pass.

    Args:
        hidden: (M, D) states of the scored positions only.
        targets: (M,) what each has to predict.
    """
    trained = [parameter for parameter in model.head.parameters() if parameter.requires_grad]
    loss: Tensor = _SlicedLoss.apply(model, hidden, targets, *trained)  # type: ignore[no-untyped-call]  # torch has no types here
    return loss


@torch.no_grad()
def score(model: LanguageModel, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p(target) (M,) in fp32 and the likeliest answer (M,) of each position.

    Args:
        hidden: (M, D) states of the scored positions only.
        targets: (M,) what each has to predict.
    """
    log_likelihoods, likeliest = [], []
    for part, wanted in _slices(model, hidden, targets):
        logits = model.logits(part).float()  # (S, V)
        log_likelihoods.append(-F.cross_entropy(logits, wanted, reduction="none"))
        likeliest.append(logits.argmax(-1))
    return torch.cat(log_likelihoods), torch.cat(likeliest)


@torch.no_grad()
def logits_of(model: LanguageModel, hidden: Tensor, answers: Tensor) -> Tensor:
    """Return the logits (M, C) of some answers only, in fp32.

    Args:
        hidden: (M, D) states of the positions that answer.
        answers: (C,) ids.
    """
    parts = [model.logits(part)[:, answers].float() for part, _ in _slices(model, hidden, hidden)]
    return torch.cat(parts)


def _slices(
    model: LanguageModel, hidden: Tensor, targets: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, SLICE // (model.num_labels or model.config.vocabulary_size))
    for start in range(0, max(1, len(targets)), size):  # nothing scored is one empty slice
        yield hidden[start : start + size], targets[start : start + size]


class _SlicedLoss(torch.autograd.Function):
    """The summed cross-entropy whose gradient is taken in the forward pass, slice by slice.

    Each slice's logits are made, differentiated and dropped before the next slice's, so the
    backward pass has nothing left to compute but a multiplication (the idea of Liger Kernel's
    fused linear cross-entropy, https://arxiv.org/abs/2410.10989). It works with any output layer.
    """

    @staticmethod
    def forward(
        ctx: Any, model: LanguageModel, hidden: Tensor, targets: Tensor, *trained: Tensor
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        wants_hidden = ctx.needs_input_grad[1]
        hidden_parts: list[Tensor] = []
        sums = [torch.zeros_like(parameter) for parameter in trained]
        for part, wanted in _slices(model, hidden, targets):
            with torch.enable_grad():
                part = part.detach().requires_grad_(wants_hidden)
                loss = F.cross_entropy(model.logits(part).float(), wanted, reduction="sum")
            inputs = [*trained, part] if wants_hidden else list(trained)
            gradients = torch.autograd.grad(loss, inputs) if inputs else ()
            for total_gradient, gradient in zip(sums, gradients, strict=False):
                total_gradient += gradient
            if wants_hidden:
                hidden_parts.append(gradients[-1])
            total += loss.detach()
        ctx.save_for_backward(*sums, *([torch.cat(hidden_parts)] if wants_hidden else []))
        ctx.wants_hidden = wants_hidden
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [gradient * grad.to(gradient.dtype) for gradient in ctx.saved_tensors]
        hidden = gradients.pop() if ctx.wants_hidden else None
        return None, hidden, None, *gradients
