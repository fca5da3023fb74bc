"""Fused low-rank update: W x + b + scale · B A x as one step, with W frozen.

The plain formula is `LoRALinear.plain_forward`; `tests/models/fast/test_low_rank.py` compares the
two.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tunewise.models.layers import Linear


class LowRank(NamedTuple):
    """An update of low rank beside a frozen layer."""

    a: Tensor
    """(R, in)."""
    b: Tensor
    """(out, R)."""
    scale: float
    dropout: float
    """Dropout of the update's input."""


def product_with_update(base: Linear, x: Tensor, bias: Tensor | None, update: LowRank) -> Tensor:
    """Return x Wᵀ + bias + scale · dropout(x) Aᵀ Bᵀ, (N, out) from (N, in)."""
    if torch.is_grad_enabled() or update.dropout:
        y: Tensor = _ProductWithUpdate.apply(  # type: ignore[no-untyped-call]  # torch has no types here
            x, base, bias, update.a, update.b, update.scale, update.dropout
        )
        return y
    low = x @ update.a.to(x.dtype).T  # (N, in) -> (N, R)
    return base.product(x, bias).addmm_(low, update.b.to(x.dtype).T, alpha=update.scale)


class _ProductWithUpdate(torch.autograd.Function):
    """y = x Wᵀ + b + scale · dropout(x) Aᵀ Bᵀ with W and b frozen, as one step of the graph.

    The update is added into the frozen product, forward and backward, where separate steps would
    each fill an (N, out) or (N, in) of their own; x is kept once, not with its dropped copy. W is
    read again in the backward pass, so that a layer may store it in fewer bits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        base: Linear,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
        dropout: float,
    ) -> Tensor:
        ctx.master_dtype = a.dtype
        a, b = a.to(x.dtype), b.to(x.dtype)
        kept, mask = torch.native_dropout(x, dropout, True) if dropout else (x, None)
        low = kept @ a.T  # (N, in) -> (N, R)
        bias = None if bias is None else bias.to(x.dtype)
        y = F.linear(x, base.dense(x.dtype), bias)  # (N, out)
        y.addmm_(low, b.T, alpha=scale)
        ctx.save_for_backward(x, low, a, b, mask)
        ctx.base, ctx.scale, ctx.dropout = base, scale, dropout
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low, a, b, mask = ctx.saved_tensors
        grad_low = (grad @ b).mul_(ctx.scale)  # (N, out) -> (N, R)
        grad_b = (grad.T @ low).mul_(ctx.scale)  # (out, R)
        kept = x if mask is None else (x * mask).div_(1 - ctx.dropout)
        grad_a = grad_low.T @ kept  # (R, in)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.base.dense(grad.dtype)  # (N, in)
            if mask is None:
                grad_x.addmm_(grad_low, a)
            else:
                grad_x.addcmul_(grad_low @ a, mask.to(x.dtype), value=1 / (1 - ctx.dropout))
        masters = (grad.to(ctx.master_dtype) for grad in (grad_a, grad_b))
        return grad_x, None, None, *masters, None, None
