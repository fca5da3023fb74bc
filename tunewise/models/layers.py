"""The layers that hold weights. Each computes in the precision of what flows through it.

Trained weights are kept in fp32 and rounded to the compute precision where they are used; frozen
ones are stored in the compute precision, so that the rounding costs nothing.

Shapes, in all of `models`: N packed tokens, D model_dim, H heads, K head_dim, V vocabulary.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tunewise.models.fast.recompute import cheap

TILE = 2**18
"""How many numbers GELU works on at once: 1 MiB in fp32, which a processor's cache holds."""


class Linear(nn.Linear):
    """y = x Wᵀ + b, with W of shape (out, in)."""

    prepacked: Tensor | None = None
    """W in the order of oneDNN's blocks, while it is there; see `prepack`."""
    is_only_multiplied = True
    """Whether W serves for nothing but the product."""

    def reset_parameters(self) -> None:
        """Draw fresh values, but not on the meta device: that imports 800 modules, for a second."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out) from (N, in)."""
        return self.product(x, self.bias)

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return x Wᵀ plus a bias, (N, out) from (N, in)."""
        bias = None if bias is None else bias.to(x.dtype)
        if self.prepacked is None:
            return F.linear(x, self.weight.to(x.dtype), bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.prepacked, bias, "none", [], "")
        return y


def row_lengths(weight: Tensor) -> Tensor:
    """Return (out,) from (out, in), at least in fp32: DoRA's magnitude of a weight as it is."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=1, dtype=dtype)
    return lengths


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) * w + b over the last axis (https://arxiv.org/abs/1607.06450)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) from (N, D)."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


def gelu(x: Tensor) -> Tensor:
    """Return the tanh form of GELU (https://arxiv.org/abs/1606.08415)."""
    if x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    y: Tensor = _GELUOnCPU.apply(x)  # type: ignore[no-untyped-call]  # torch has no types here
    return y


class _GELUOnCPU(torch.autograd.Function):
    """x (1 + tanh u) / 2 as x sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x³).

    The number is the same, and PyTorch's sigmoid takes a sixth of the time of its tanh.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        factor = 2 * math.sqrt(2 / math.pi)
        tiles = zip(torch.split(y.view(-1), TILE), torch.split(x.reshape(-1), TILE), strict=True)
        for into, tile in tiles:
            tile = tile.to(torch.promote_types(x.dtype, torch.float32))
            twice_u = (tile * tile).mul_(0.044715 * factor).add_(factor).mul_(tile)
            into.copy_(twice_u.sigmoid_().mul_(tile))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        grad_x: Tensor = torch.ops.aten.gelu_backward(grad, x, approximate="tanh")
        return grad_x


class FeedForward(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, model_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.up = Linear(model_dim, mlp_dim)
        self.down = Linear(mlp_dim, model_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) from (N, D)."""
        active = cheap(gelu, self.up(x))  # (N, D) -> (N, mlp)
        y: Tensor = self.down(active)  # (N, mlp) -> (N, D)
        return y
