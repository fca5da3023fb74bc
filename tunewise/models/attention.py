"""Causal attention over packed tokens: many sequences in one flat row, none looking into another.

Sequences of equal length that lie next to each other form a run, and a run is one call of the fused
kernel on a (sequences, heads, length, head_dim) view. Nothing is padded: `pack` puts sequences of
equal length side by side, and in language modelling almost all have the same length.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunewise.models.cache import Past
from tunewise.models.layers import Linear


class Run(NamedTuple):
    """Neighbouring sequences of one length."""

    num_sequences: int
    length: int


def runs_of(segments: Tensor) -> list[Run]:
    """Return the runs of equal-length sequences in a packed row.

    Args:
        segments: (N,) the number of the sequence each token belongs to; neighbours of one sequence
            share it.
    """
    _, lengths = torch.unique_consecutive(segments, return_counts=True)
    length, count = torch.unique_consecutive(lengths, return_counts=True)
    return [Run(*pair) for pair in zip(count.tolist(), length.tolist(), strict=True)]


class Attention(nn.Module):
    """softmax(scale · Q Kᵀ + mask) V in H heads (https://arxiv.org/abs/1706.03762).

    Args:
        scale: factor of the logits; None is 1 / sqrt(head_dim).
        window: how many tokens back a token sees, itself included; None sees the whole sequence.
        input_bias: whether query, key and value carry a bias.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        scale: float | None = None,
        window: int | None = None,
        input_bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.window = window
        self.dropout = 0.0
        self.query = Linear(model_dim, model_dim, bias=input_bias)
        self.key = Linear(model_dim, model_dim, bias=input_bias)
        self.value = Linear(model_dim, model_dim, bias=input_bias)
        self.out = Linear(model_dim, model_dim)

    def forward(self, x: Tensor, runs: list[Run], past: Past | None = None) -> Tensor:
        """Return (N, D) from (N, D).

        Args:
            past: keys and values of what came before, which those of `x` are added to.
        """
        # The CPU's fused kernel is as fast in fp32 as in bf16 on long sequences, and its backward
        # five times as fast on short ones.
        on_cpu = x.device.type == "cpu"
        dtype = torch.float32 if on_cpu and x.dtype == torch.bfloat16 else x.dtype
        inputs = (self.query(x), self.key(x), self.value(x))
        # The backward of a split is one concatenation; that of a slice would fill an (N, D) each.
        sizes = [num_sequences * length for num_sequences, length in runs]
        parts = zip(*(part.to(dtype).split(sizes) for part in inputs), runs, strict=True)
        mixed = torch.cat([self._attend(q, k, v, run, past) for q, k, v, run in parts]).to(x.dtype)
        y: Tensor = self.out(mixed)
        return y

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, run: Run, past: Past | None
    ) -> Tensor:
        """Return (B·T, D) from (B·T, D): one run of B sequences of T tokens."""
        num_sequences, length = run
        query, key, value = (
            part.view(num_sequences, length, self.num_heads, -1).transpose(1, 2)  # (B, H, T, K)
            for part in (query, key, value)
        )
        mask = None
        if past is not None:
            key, value, mask = past.add(key, value, self.window)
        if self.window is not None and length > self.window:
            mask = _band(length, self.window, query.device)  # (T, T)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None and length > 1,
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.scale,
        )  # (B, H, T, K)
        return mixed.transpose(1, 2).reshape(num_sequences * length, -1)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """Return (T, T), true where a token (row) sees another (column): 0 <= row - column < window."""
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril() & ones.triu(1 - window)
