"""Adapters: small trained layers inside frozen blocks (https://arxiv.org/abs/1902.00751).

What attention or feed-forward adds to the residual stream, h, becomes h + U gelu(V h + a) + b, with
V of shape (M, D) and U of shape (D, M): a bottleneck of M numbers beside a residual connection.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.method import Method, freeze
from tunewise.models import LanguageModel
from tunewise.models.language_model import Block
from tunewise.models.layers import Linear, gelu

INITIAL_STD = 0.01
"""Of fresh weights, cut off at two deviations: small enough to begin near the frozen model."""


class AdaptedLinear(nn.Module):
    """A frozen layer whose output passes a bottleneck."""

    def __init__(self, base: Linear, bottleneck: int) -> None:
        super().__init__()
        self.base = base
        size, device = base.out_features, base.weight.device
        self.down = Linear(size, bottleneck, device=device)
        self.up = Linear(bottleneck, size, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out) from (N, in)."""
        h: Tensor = self.base(x)
        change: Tensor = self.up(gelu(self.down(h)))  # (N, out) -> (N, M) -> (N, out)
        return h + change


class Adapter(Method):
    """Train a bottleneck after attention and after feed-forward in every block."""

    kind: Literal["adapter"] = "adapter"
    default_learning_rate: ClassVar[float] = 1e-3
    bottleneck: int = Field(default=64, gt=0, le=2**16)
    """How many numbers an output passes through."""

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze the model and put adapters into every block."""
        freeze(model)
        for block in model.blocks:
            assert isinstance(block, Block)
            for owner, attribute in ((block.attention, "out"), (block.feed_forward, "down")):
                layer = AdaptedLinear(getattr(owner, attribute), self.bottleneck)
                if not layer.up.weight.is_meta:
                    _initialise(layer, generator)
                setattr(owner, attribute, layer)


def _initialise(layer: AdaptedLinear, generator: torch.Generator) -> None:
    for part in (layer.down, layer.up):
        bound = 2 * INITIAL_STD
        nn.init.trunc_normal_(part.weight, std=INITIAL_STD, a=-bound, b=bound, generator=generator)
        nn.init.zeros_(part.bias)
