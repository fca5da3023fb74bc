"""Causal attention over packed tokens: many sequences in one flat row, none of which sees another.

Shapes: N packed tokens, B sequences of T tokens in a group, D model_dim, H query heads, G heads of
keys and values, K head_dim.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunewise.data.packing import Group
from tunewise.models.cache import Past
from tunewise.models.config import AttentionShape
from tunewise.models.fast.attention import fused_on_cpu
from tunewise.models.layers import Linear, RMSNorm
from tunewise.models.packed import (
    Places,
    as_fp32_on_cpu,
    band_mask,
    join_heads,
    repeat_heads,
    sizes_of,
    split_heads,
)


class Heads(NamedTuple):
    """Queries, keys and values of packed tokens."""

    query: Tensor
    """(N, H·K)."""
    key: Tensor
    """(N, G·K)."""
    value: Tensor
    """(N, G·K)."""


class Attention(nn.Module):
    """softmax(scale · Q Kᵀ + mask) V in H heads (https://arxiv.org/abs/1706.03762)."""

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = 0.0
        query_dim = shape.num_heads * shape.head_dim
        key_dim = shape.num_kv_heads * shape.head_dim
        self.query = Linear(shape.model_dim, query_dim, bias=shape.input_bias)
        self.key = Linear(shape.model_dim, key_dim, bias=shape.input_bias)
        self.value = Linear(shape.model_dim, key_dim, bias=shape.input_bias)
        self.out = Linear(query_dim, shape.model_dim, bias=shape.output_bias)
        if shape.head_norm_epsilon is not None:
            self.query_norm = RMSNorm(shape.head_dim, shape.head_norm_epsilon)
            self.key_norm = RMSNorm(shape.head_dim, shape.head_norm_epsilon)

    def forward(self, x: Tensor, places: Places, past: Past | None = None) -> Tensor:
        """Return (N, D) from (N, D).

        Args:
            past: keys and values of the earlier tokens, to which those of `x` are added.
        """
        y: Tensor = self.out(self.context(x, places, past))
        return y

    def context(self, x: Tensor, places: Places, past: Past | None = None) -> Tensor:
        """Return the input of the output layer, (N, H·K): the mixed values that each token sees."""
        heads = Heads(self.query(x), self.key(x), self.value(x))
        return self.mix(self._placed(heads, places.positions), places.groups, past)

    def _placed(self, heads: Heads, positions: Tensor) -> Heads:
        """Return queries and keys normed and turned by their positions, if the shape says so."""
        shape, query, key = self.shape, heads.query, heads.key
        if shape.head_norm_epsilon is None and shape.rotary is None:
            return heads
        query, key = (x.view(len(x), -1, shape.head_dim) for x in (query, key))  # (N, H, K)
        if shape.head_norm_epsilon is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if shape.rotary is not None:
            query, key = (shape.rotary.turn(x, positions) for x in (query, key))
        return Heads(query.flatten(1), key.flatten(1), heads.value)

    def mix(self, heads: Heads, groups: list[Group], past: Past | None) -> Tensor:
        """Return the values that each token sees, weighted, (N, H·K)."""
        if past is not None and not past.is_reading:
            return self._mix_one_more(heads, past)
        sizes = sizes_of(groups)
        if past is not None:
            parts = torch.split(heads.key, sizes), torch.split(heads.value, sizes)
            for group, *read in zip(groups, *parts, strict=True):
                past.read(*(split_heads(part, group, self.shape.num_kv_heads) for part in read))
        dropout = self.dropout if self.training else 0.0
        if heads.query.device.type == "cpu" and dropout == 0:
            return fused_on_cpu(*heads, groups, self.shape)
        # The backward of a split is one concatenation; that of a slice fills an (N, D) each.
        each = zip(*(torch.split(as_fp32_on_cpu(part), sizes) for part in heads), strict=True)
        mixed = [
            self._mix_group(Heads(*of_group), group, dropout)
            for of_group, group in zip(each, groups, strict=True)
        ]
        return torch.cat(mixed).to(heads.query.dtype)

    def _mix_group(self, heads: Heads, group: Group, dropout: float) -> Tensor:
        """Return (B·T, H·K) of one group: the formula."""
        query, key, value = self._split(heads, group)
        mask = band_mask(group.length, self.shape.window, query)
        mixed = F.scaled_dot_product_attention(
            query,
            repeat_heads(key, self.shape.num_heads),
            repeat_heads(value, self.shape.num_heads),
            attn_mask=mask,
            is_causal=mask is None and group.length > 1,
            dropout_p=dropout,
            scale=self.shape.scale,
        )  # (B, H, T, K)
        return join_heads(mixed)

    def _mix_one_more(self, heads: Heads, past: Past) -> Tensor:
        """Return (B, H·K): one token of each of B rows, and what it sees of its row."""
        query, key, value = self._split(heads, Group(len(heads.query), 1))
        past.append(key, value)
        mixed = [
            F.scaled_dot_product_attention(
                as_fp32_on_cpu(query[rows]),
                repeat_heads(as_fp32_on_cpu(keys), self.shape.num_heads),
                repeat_heads(as_fp32_on_cpu(values), self.shape.num_heads),
                attn_mask=mask,
                scale=self.shape.scale,
            )
            for rows, keys, values, mask in past.seen(self.shape.window)
        ]
        return join_heads(torch.cat(mixed)).to(heads.query.dtype)

    def _split(self, heads: Heads, group: Group) -> tuple[Tensor, Tensor, Tensor]:
        """Return query (B, H, T, K), key and value (B, G, T, K) of a group."""
        num_kv_heads = self.shape.num_kv_heads
        return (
            split_heads(heads.query, group, self.shape.num_heads),
            split_heads(heads.key, group, num_kv_heads),
            split_heads(heads.value, group, num_kv_heads),
        )
