"""Fused attention on a CPU; `Attention._mix_group` has the plain formula.

The kernel is as fast in fp32 as in bf16 on long sequences, and its backward ten times as fast on
short ones. By F.scaled_dot_product_attention its inputs and output would be kept in fp32 for the
backward pass; here they are kept in their own precision, and converted to fp32 again group by
group.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tunewise.data.packing import Group
from tunewise.models.config import AttentionShape
from tunewise.models.packed import (
    as_fp32_on_cpu,
    band_mask,
    join_heads,
    repeat_heads,
    sizes_of,
    split_heads,
)

kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

PIECE = 512
"""Tokens that a thread converts to fp32 at once: few enough for its cache."""


def fused_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, groups: list[Group], shape: AttentionShape
) -> Tensor:
    """Return softmax(scale · Q Kᵀ + mask) V of all groups, (N, H·K), as one step of the graph.

    Args:
        query: (N, H·K).
        key: (N, G·K); value has the same shape.
    """
    mixed: Tensor = _FusedOnCPU.apply(query, key, value, groups, shape)  # type: ignore[no-untyped-call]  # torch has no types here
    return mixed


class _FusedOnCPU(torch.autograd.Function):
    """The kernel over pieces of groups, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        groups: list[Group],
        shape: AttentionShape,
    ) -> Tensor:
        mixed = torch.empty_like(query)
        log_sums = []
        for rows, piece in _pieces(groups):
            parts = []
            for group, *heads in _heads_of(piece, shape, query[rows], key[rows], value[rows]):
                mask = band_mask(group.length, shape.window, heads[0])
                part, log_sum = kernel(
                    *heads, is_causal=mask is None, attn_mask=mask, scale=shape.scale
                )
                parts.append(join_heads(part))
                log_sums.append(log_sum)  # (B, H, T)
            mixed[rows] = torch.cat(parts)
        ctx.save_for_backward(query, key, value, mixed, *log_sums)
        ctx.settings = groups, shape
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mixed, *log_sums = ctx.saved_tensors
        groups, shape = ctx.settings
        gradients = [torch.empty_like(part) for part in (query, key, value)]
        remaining = iter(log_sums)
        for rows, piece in _pieces(groups):
            kept = query[rows], key[rows], value[rows], grad[rows], mixed[rows]
            parts = []
            for group, *heads, of_grad, of_mixed in _heads_of(piece, shape, *kept):
                mask = band_mask(group.length, shape.window, heads[0])
                of_query, of_key, of_value = kernel_backward(
                    of_grad,
                    *heads,
                    of_mixed,
                    next(remaining),
                    dropout_p=0.0,
                    is_causal=mask is None,
                    attn_mask=mask,
                    scale=shape.scale,
                )
                shared = (_sum_shared(part, shape.num_kv_heads) for part in (of_key, of_value))
                parts.append([join_heads(part) for part in (of_query, *shared)])
            for gradient, of_groups in zip(gradients, zip(*parts, strict=True), strict=True):
                gradient[rows] = torch.cat(of_groups)
        return *gradients, None, None


def _sum_shared(gradient: Tensor, num_kv_heads: int) -> Tensor:
    """Return (B, G, T, K) from (B, H, T, K): summed over the query heads that share a head."""
    if gradient.shape[1] == num_kv_heads:
        return gradient
    batch, _, length, head_dim = gradient.shape
    return gradient.reshape(batch, num_kv_heads, -1, length, head_dim).sum(2)


def _pieces(groups: list[Group]) -> Iterator[tuple[slice, list[Group]]]:
    """Yield a slice of tokens and their groups; large groups are cut between sequences."""
    max_tokens = PIECE * torch.get_num_threads()
    start, end = 0, 0
    piece: list[Group] = []
    for num_sequences, length in groups:
        at_once = max(1, max_tokens // length)
        for first in range(0, num_sequences, at_once):
            group = Group(min(at_once, num_sequences - first), length)
            size = group.num_sequences * length
            if piece and end + size - start > max_tokens:
                yield slice(start, end), piece
                start, piece = end, []
            piece.append(group)
            end += size
    yield slice(start, end), piece


def _heads_of(
    groups: list[Group], shape: AttentionShape, *parts: Tensor
) -> Iterator[tuple[Any, ...]]:
    """Yield each group and its (B, H, T, K) of every part, with fp32 in place of bf16.

    Args:
        parts: queries (N, H·K), keys and values (N, G·K), and more of the shape of queries.
    """
    wide = (torch.split(as_fp32_on_cpu(part), sizes_of(groups)) for part in parts)
    for group, *of_group in zip(groups, *wide, strict=True):
        heads = [
            split_heads(part, group, shape.num_kv_heads if index in (1, 2) else shape.num_heads)
            for index, part in enumerate(of_group)
        ]
        yield group, *(repeat_heads(part, shape.num_heads) for part in heads)
