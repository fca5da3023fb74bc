"""Adapters: small trained layers inside frozen blocks (https://arxiv.org/abs/1902.00751).

The output h that attention or feed-forward adds to the residual stream becomes h + U gelu(V h + a)
+ b, with V of shape (M, D) and U of shape (D, M): a bottleneck of M numbers beside a residual
connection.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.methods.method import Method, Wrapped, freeze
from tunewise.models import LanguageModel
from tunewise.models.layers import Linear, gelu

INITIAL_STD = 0.01
"""Standard deviation of fresh weights, cut off at twice that: small beside the frozen model."""


class AdaptedLinear(Wrapped):
    """A frozen layer whose output passes a bottleneck."""

    base: Linear

    def __init__(self, base: Linear, bottleneck: int) -> None:
        super().__init__(base)
        size, device = base.out_dim, base.device
        self.down = Linear(size, bottleneck, device=device)
        self.up = Linear(bottleneck, size, device=device)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw weights within two deviations and set biases to zero; nothing on the meta device."""
        if self.up.device.type == "meta":
            return
        bound = 2 * INITIAL_STD
        for part in (self.down, self.up):
            nn.init.trunc_normal_(
                part.weight, std=INITIAL_STD, a=-bound, b=bound, generator=generator
            )
            nn.init.zeros_(part.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out) from (N, in)."""
        h: Tensor = self.base(x)
        change: Tensor = self.up(gelu(self.down(h)))  # (N, out) -> (N, M) -> (N, out)
        return h + change

    def merged(self) -> Linear:
        """Raise ConfigError: no linear layer is equal to one with a bottleneck."""
        raise ConfigError(f"adapter: {Adapter.why_not_merged}")


class Adapter(Method):
    """Train a bottleneck after attention and after feed-forward in every block."""

    kind: Literal["adapter"] = "adapter"
    default_learning_rate: ClassVar[float] = 1e-3
    why_not_merged: ClassVar[str | None] = "a bottleneck between two layers is neither of them"
    bottleneck: int = Field(default=64, gt=0, le=2**16)
    """Size of the bottleneck that an output passes."""

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze the model and put adapters into every block."""
        freeze(model)
        for block in model.blocks:
            for name in model.residual_layers:
                path = model.layers[name]
                base = block.get_submodule(path)
                assert isinstance(base, Linear)
                layer = AdaptedLinear(base, self.bottleneck)
                layer.initialise(generator)
                block.set_submodule(path, layer)
