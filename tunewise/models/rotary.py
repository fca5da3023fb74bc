"""Rotary positions: queries and keys are turned by angles that grow with the position.

RoFormer, https://arxiv.org/abs/2104.09864. Attention then depends on distances alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotary:
    """The angles of one kind of rotary position."""

    base: float = 10_000.0
    """Pair i of a head's K numbers turns by position / base^(2i/K)."""

    def turn(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return x (N, H, K), each token's heads turned by the angles of its position (N,).

        Number i of the first half of a head and number i of the second half are a pair, as in
        transformers' Llama. Angles are computed in fp32.
        """
        half = x.shape[-1] // 2
        exponents = torch.arange(half, device=x.device, dtype=torch.float32) / half
        angles = positions[:, None, None].float() / self.base**exponents  # (N, 1, K/2)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = x[..., :half], x[..., half:]
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
