"""Packed rows in attention: groups of sequences of equal length, and their heads.

Sequences of equal length that lie next to each other form a group, and a group is one call of a
kernel on a (sequences, heads, length, head_dim) view. Nothing is padded: `pack` puts sequences of
equal length side by side, and in language modelling almost all have the same length.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tunewise.data.packing import Group


class Places(NamedTuple):
    """The positions and sequences of the tokens of a packed row."""

    positions: Tensor
    """(N,) the position of each token in its sequence; a trained prefix takes those before it."""
    groups: list[Group]
    """The sequences that the row consists of, neighbours of equal length together."""


def sizes_of(groups: list[Group]) -> list[int]:
    """Return how many tokens each group has."""
    return [num_sequences * length for num_sequences, length in groups]


def split_heads(x: Tensor, group: Group, num_heads: int) -> Tensor:
    """Return (B, H, T, K) from (B·T, H·K)."""
    return x.view(group.num_sequences, group.length, num_heads, -1).transpose(1, 2)


def join_heads(heads: Tensor) -> Tensor:
    """Return (B·T, H·K) from (B, H, T, K)."""
    return heads.transpose(1, 2).flatten(2).flatten(0, 1)


def repeat_heads(heads: Tensor, num_heads: int) -> Tensor:
    """Return (B, H, T, K) from (B, G, T, K): H / G query heads share each key and value head."""
    num_shared = num_heads // heads.shape[1]
    return heads if num_shared == 1 else heads.repeat_interleave(num_shared, dim=1)


def band_mask(length: int, window: int | None, like: Tensor) -> Tensor | None:
    """Return (T, T), 0 where a token (row) sees another (column) and -inf where it does not.

    It sees those with 0 <= row - column < window. None stands for the whole past, for which the
    kernels have a mask of their own.
    """
    if window is None or length <= window:
        return None
    hidden = like.new_full((length, length), -torch.inf)
    return hidden.triu(1) + hidden.tril(-window)


def as_fp32_on_cpu(x: Tensor) -> Tensor:
    """Return x in fp32 if it is bf16 on a CPU, whose bf16 kernels are slow on short sequences."""
    if x.device.type != "cpu":
        return x
    return x.to(torch.promote_types(x.dtype, torch.float32))
