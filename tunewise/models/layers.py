"""Layers that hold weights. Each computes in the precision of its input.

Trained weights are kept in fp32 and rounded to the compute precision where they are used; frozen
ones are stored in the compute precision, so that the rounding costs nothing.

Shapes, in all of `models`: N packed tokens, D model_dim, H heads, K head_dim, V vocabulary.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunewise.models.fast.gelu import gelu_on_cpu
from tunewise.models.fast.recompute import recomputed


class Linear(nn.Linear):
    """y = x Wᵀ + b, with W of shape (out, in).

    Only this class knows how W is stored: others ask for `product`, or for W itself by `dense`. So
    one that stores it in fewer bits has its own `replace_weight` and `dense`, and no more.
    """

    prepacked: Tensor | None = None
    """W in the order of oneDNN's blocks, or None; see `models/fast/prepacked.py`."""
    is_only_multiplied = True
    """False if something besides the product reads W (DoRA's norm), so that prepacking keeps W."""

    @classmethod
    def holding(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """Return a frozen layer of a weight (out, in) and a bias (out,), or none."""
        out_dim, in_dim = weight.shape
        layer = cls(in_dim, out_dim, bias=bias is not None, device="meta")
        layer.replace_weight(weight)
        if bias is not None:
            layer.bias = nn.Parameter(bias, requires_grad=False)
        return layer

    def replace_weight(self, weight: Tensor) -> None:
        """Replace the weight by a frozen one (out, in) that no other layer shares."""
        self.weight = nn.Parameter(weight, requires_grad=False)

    def reset_parameters(self) -> None:
        """Draw fresh values, but not on the meta device, where it would import 800 modules."""
        if not self.weight.is_meta:
            super().reset_parameters()

    @property
    def in_dim(self) -> int:
        """The width of the input."""
        return self.in_features

    @property
    def out_dim(self) -> int:
        """The width of the output."""
        return self.out_features

    @property
    def device(self) -> torch.device:
        """The device of the weight."""
        return self.weight.device

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out) from (N, in)."""
        return self.product(x, self.bias)

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return x Wᵀ plus a bias, (N, out) from (N, in)."""
        bias = None if bias is None else bias.to(x.dtype)
        if self.prepacked is None:
            return F.linear(x, self.dense(x.dtype), bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.prepacked, bias, "none", [], "")
        return y

    def dense(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return W, (out, in), in a precision; without one, as stored."""
        return self.weight if dtype is None else self.weight.to(dtype)


def row_lengths(weight: Tensor) -> Tensor:
    """Return (out,) from (out, in), at least in fp32: DoRA's magnitude of a weight as it is."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=1, dtype=dtype)
    return lengths


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) * w + b over the last axis (https://arxiv.org/abs/1607.06450)."""

    @recomputed
    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) from (N, D)."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean of squares + eps) * w over the last axis (https://arxiv.org/abs/1910.07467)."""

    @recomputed
    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x, (..., D)."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


@recomputed
def gelu(x: Tensor) -> Tensor:
    """Return the tanh form of GELU (https://arxiv.org/abs/1606.08415)."""
    return gelu_on_cpu(x) if x.device.type == "cpu" else F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, model_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.up = Linear(model_dim, mlp_dim)
        self.down = Linear(mlp_dim, model_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) from (N, D)."""
        y: Tensor = self.down(gelu(self.up(x)))  # (N, D) -> (N, mlp) -> (N, D)
        return y
