"""The layers of LoRA and DoRA: a frozen layer with a trained low-rank update.

Shapes: N packed tokens, R rank.
"""

import math
from typing import Literal
from weakref import ReferenceType, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunewise.methods.method import Wrapped
from tunewise.models.fast.low_rank import LowRank, product_with_update
from tunewise.models.layers import Linear, row_lengths
from tunewise.peft.joint import LowRankUpdate

Init = Literal["kaiming", "gaussian", "pissa"]


class LoRALinear(Wrapped):
    """A frozen layer plus a trainable update of rank R: W x + b + scale · B A x."""

    base: Linear
    A: nn.Parameter
    """(R, in)."""
    B: nn.Parameter
    """(out, R)."""
    start: tuple[Tensor, Tensor] | None
    """The A and B that were subtracted from W (PiSSA); None if W is the base model's own."""

    def __init__(self, base: Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__(base)
        self.scale = scale
        self.dropout = dropout
        self.start = None
        self.A = nn.Parameter(torch.empty(rank, base.in_dim, device=base.device))
        self.B = nn.Parameter(torch.zeros(base.out_dim, rank, device=base.device))

    def plain_forward(self, x: Tensor) -> Tensor:
        """Return W x + b + scale · B A x, (N, out) from (N, in): the paper's formula."""
        low = F.dropout(x, self.dropout, self.training) @ self.A.to(x.dtype).T  # (N, in) -> (N, R)
        y: Tensor = self.base(x) + self.scale * (low @ self.B.to(x.dtype).T)  # (N, R) -> (N, out)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Return what `plain_forward` does, up to rounding: in one step, which is faster."""
        return self._product(x, self.base.bias)

    def _product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        update = LowRank(self.A, self.B, self.scale, dropout)
        return product_with_update(self.base, x, bias, update)

    def initialise(self, init: Init, generator: torch.Generator) -> None:
        """Give A and B their initial values; the output of the layer stays the same."""
        if init == "pissa":
            self._take_principal_part()
        elif self.A.is_meta:
            return
        elif init == "kaiming":
            nn.init.kaiming_uniform_(self.A, a=math.sqrt(5), generator=generator)
        else:
            nn.init.normal_(self.A, std=1 / len(self.A), generator=generator)

    @torch.no_grad()
    def _take_principal_part(self) -> None:
        """Move the part of W with its R largest singular values into the update.

        All is computed in float64 and rounded once: so the rest of W, which is not saved, is
        the same when the model is adapted again, whatever the number of threads.
        """
        weight = self.base.dense()
        rest = torch.empty_like(
            weight, dtype=torch.float32
        )  # the stored weight may have less precision
        if not weight.is_meta:
            a, b = _principal_factors(weight.double() / self.scale, len(self.A))
            self.A.data, self.B.data = a.float(), b.float()
            self.start = self.A.detach().clone(), self.B.detach().clone()
            rest = (weight - self.scale * (self.B.double() @ self.A.double())).float()
        self.base.replace_weight(rest)  # the output layer may share one with the token embedding

    def load(self, update: LowRankUpdate) -> None:
        """Give A and B the values of an update of the same rank; nothing on the meta device."""
        if not self.A.is_meta:
            self.A.data, self.B.data = update.a, update.b

    def update(self) -> LowRankUpdate:
        """Return the update of the base model's own weight.

        If a part of that weight was moved out at the start (PiSSA), the part is subtracted again,
        and the rank is 2R.
        """
        a, b = self.A.detach(), self.B.detach()
        if self.start is not None:
            a_start, b_start = self.start
            a, b = torch.cat([a, a_start]), torch.cat([b, -b_start], dim=1)
        return LowRankUpdate(a, b, self.scale)

    @property
    def weight(self) -> Tensor:
        """The frozen weight, (out, in), which a tied output layer shares with the embedding."""
        return self.base.dense()

    @torch.no_grad()
    def merged(self) -> Linear:
        """Return a plain layer, equal to this one up to rounding."""
        bias = None if self.base.bias is None else self.base.bias.detach().clone()
        return Linear.holding(self._merged_weight(), bias)

    def _merged_weight(self) -> Tensor:
        """Return W + scale · B A, (out, in), in the precision of A and B."""
        return torch.addmm(self.base.dense(self.A.dtype), self.B, self.A, alpha=self.scale)


class DoRALinear(LoRALinear):
    """A layer whose rows have trained lengths (https://arxiv.org/abs/2402.09353).

    With V = W + scale · B A it computes m ∘ V x / ‖V‖ + b, the norm being that of each row. The
    gradient treats the norm as a constant (section 4.3), and dropout affects the input of B A only.
    The norm needs W itself, so the base layer is marked as one that must keep it.
    """

    magnitude: nn.Parameter
    """m, (out,)."""

    def __init__(self, base: Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__(base, rank, scale, dropout)
        base.is_only_multiplied = False
        self._kept: tuple[ReferenceType[Tensor], Tensor] | None = None
        self.magnitude = nn.Parameter(torch.empty(len(self.B), device=self.B.device))

    def plain_forward(self, x: Tensor) -> Tensor:
        """Return m ∘ V x / ‖V‖ + b, (N, out) from (N, in): the paper's formula."""
        low = F.dropout(x, self.dropout, self.training) @ self.A.to(x.dtype).T  # (N, in) -> (N, R)
        update = self.scale * (low @ self.B.to(x.dtype).T)  # (N, R) -> (N, out)
        v = self.base.dense(self.A.dtype) + self.scale * (self.B @ self.A)  # (out, in)
        gain = self.magnitude / row_lengths(v.detach())  # (out,)
        y = (self.base.product(x, None) + update) * gain
        return (y if self.base.bias is None else y + self.base.bias).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return what `plain_forward` does, up to rounding: in fewer steps, which is faster."""
        # The gain is in fp32: the next number above 1 is 1.008 in bf16.
        y = self._product(x, None) * self._gain()
        return (y if self.base.bias is None else y + self.base.bias).to(x.dtype)

    def initialise(self, init: Init, generator: torch.Generator) -> None:
        """Give A and B their initial values, and m the lengths that the rows have with them."""
        super().initialise(init, generator)
        self.magnitude.data = self._norm()

    def load(self, update: LowRankUpdate) -> None:
        """Give A, B and m the values of an update of the same rank; nothing on the meta device."""
        super().load(update)
        if not self.A.is_meta and update.magnitude is not None:
            self.magnitude.data = update.magnitude

    def update(self) -> LowRankUpdate:
        """Return the update of the base model's own weight, and the lengths of the rows."""
        return super().update()._replace(magnitude=self.magnitude.detach())

    def _gain(self) -> Tensor:
        """Return m / ‖V‖, (out,). It is computed once for as long as W is prepacked.

        The norm takes as long as the products of several tokens.
        """
        prepacked = self.base.prepacked
        if prepacked is None:
            return self.magnitude / self._norm()
        if self._kept is None or self._kept[0]() is not prepacked:
            self._kept = ref(prepacked), self.magnitude / self._norm()
        return self._kept[1]

    @torch.no_grad()
    def _norm(self) -> Tensor:
        """Return ‖V‖, (out,), whose square is ‖W‖² + 2 scale B·(W Aᵀ) + scale² B·(B A Aᵀ).

        So V, which has as many numbers as W, is never made.
        """
        weight, a, b, scale = self.base.dense(), self.A, self.B, self.scale
        low = (weight @ a.T.to(weight.dtype)).to(a.dtype)  # (out, in) -> (out, R)
        change = b * (2 * scale * low + scale**2 * (b @ (a @ a.T)))  # (out, R)
        return (row_lengths(weight).square() + change.sum(dim=1)).sqrt()

    def _merged_weight(self) -> Tensor:
        """Return m ∘ V / ‖V‖, (out, in)."""
        return super()._merged_weight() * self._gain().unsqueeze(1)


def _principal_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A (R, in) and B (out, R): B A is the best approximation of a weight in rank R.

    With W = U S Vᵀ they are √S Vᵀ and U √S of the R greatest singular values, as in PiSSA
    (https://arxiv.org/abs/2404.02948). U comes from the eigenvectors of W Wᵀ, of which LAPACK finds
    the last R alone, in a tenth of the time of all singular vectors.
    """
    from scipy.linalg import eigh  # takes a moment to import

    out_dim, in_dim = weight.shape
    if out_dim > in_dim:
        b, a = _principal_factors(weight.T, rank)
        return a.T, b.T
    last = (out_dim - rank, out_dim - 1)
    squares, vectors = map(
        torch.from_numpy, eigh((weight @ weight.T).numpy(), subset_by_index=last)
    )
    u, s = vectors.flip(1), squares.flip(0).sqrt()  # (out, R), (R,)
    return (u.T @ weight) / s.sqrt().unsqueeze(1), u * s.sqrt()
