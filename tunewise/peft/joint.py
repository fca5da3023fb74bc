"""Joint low-rank updates: those of several of our layers become one of PEFT's, and are split.

GPT-2's `c_attn` holds query, key and value. With updates of ranks R1, R2 and R3 its joint update is
exact and has rank R1 + R2 + R3: the A stand above each other, and B is block-diagonal.

    A = [A_q; A_k; A_v]    B = [[B_q, 0, 0], [0, B_k, 0], [0, 0, B_v]]
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tunewise.models.layers import row_lengths


class LowRankUpdate(NamedTuple):
    """The update of one layer: scale · B A, or DoRA's. Rank 0 means that there is none."""

    a: Tensor
    """(R, in), in fp32."""
    b: Tensor
    """(out, R), in fp32."""
    scale: float
    magnitude: Tensor | None = None
    """(out,), in fp32; None if it is not DoRA's."""


def join_updates(
    updates: Sequence[LowRankUpdate | None], weights: Sequence[Tensor]
) -> LowRankUpdate:
    """Return the joint update of layers that lie above each other in one of transformers.

    Args:
        updates: the updates of our layers, in order; None for a layer without one.
        weights: the frozen weights of our layers, each (out, in).
    """
    first = next(update for update in updates if update is not None)
    factors_a, factors_b, magnitudes = [], [], []
    for update, weight in zip(updates, weights, strict=True):
        out_dim, in_dim = weight.shape
        factors_a.append(torch.empty(0, in_dim) if update is None else update.a)
        factors_b.append(torch.empty(out_dim, 0) if update is None else update.b)
        if first.magnitude is not None:
            own = None if update is None else update.magnitude
            magnitudes.append(row_lengths(weight.detach()) if own is None else own)
    b: Tensor = torch.block_diag(*factors_b)  # type: ignore[no-untyped-call]  # (out, ΣR)
    return LowRankUpdate(
        a=torch.cat(factors_a),  # (ΣR, in)
        b=b,
        scale=first.scale,
        magnitude=torch.cat(magnitudes) if magnitudes else None,
    )


def split_update(joint: LowRankUpdate, out_dims: Sequence[int]) -> list[LowRankUpdate]:
    """Return the update of each of the layers that a layer of transformers holds.

    Each gets its rows of B, and A. If B is block-diagonal, so that a component is zero in one layer
    and not in another, it is left out of the first: so this undoes `join_updates`.
    """
    rows = torch.split(joint.b, list(out_dims))  # (out_i, R) each
    used = torch.stack([own.any(dim=0) for own in rows])  # (layers, R)
    kept = used | ~used.any(dim=0)
    magnitudes: Sequence[Tensor | None] = [None] * len(rows)
    if joint.magnitude is not None:
        magnitudes = torch.split(joint.magnitude, list(out_dims))
    return [
        LowRankUpdate(joint.a[components], own[:, components].contiguous(), joint.scale, magnitude)
        for own, components, magnitude in zip(rows, kept, magnitudes, strict=True)
    ]
