"""The layers that hold weights. Each computes in the precision of what flows through it.

Trained weights are kept in fp32 and rounded to the compute precision where they are used; frozen
ones are stored in the compute precision, so that the rounding costs nothing.

Shapes, in all of `models`: N packed tokens, D model_dim, H heads, K head_dim, V vocabulary.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """y = x Wᵀ + b, with W of shape (out, in)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out) from (N, in)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) * w + b over the last axis (https://arxiv.org/abs/1607.06450)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) from (N, D)."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class FeedForward(nn.Module):
    """Two layers with the tanh form of GELU between them (https://arxiv.org/abs/1606.08415)."""

    def __init__(self, model_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.up = Linear(model_dim, mlp_dim)
        self.down = Linear(mlp_dim, model_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) from (N, D)."""
        active = F.gelu(self.up(x), approximate="tanh")  # (N, D) -> (N, mlp)
        y: Tensor = self.down(active)  # (N, mlp) -> (N, D)
        return y
