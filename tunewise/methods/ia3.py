"""(IA)³: trained vectors that scale keys, values and inner activations (https://arxiv.org/abs/2205.05638).

With l the vectors, ⊙ the product entry by entry and f the activation of the feed-forward layer:
a block's keys become l_k ⊙ K, its values l_v ⊙ V, and its feed-forward W_down (l_f ⊙ f(W_up x)).
All vectors start at 1, so a fresh model is the frozen one.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.method import Method, Wrapped, freeze
from tunewise.models import LanguageModel
from tunewise.models.layers import Linear
from tunewise.peft.write import PeftAdapter, ia3_adapter

Side = Literal["input", "output"]

SCALED: Mapping[str, Side] = {
    "key": "output",
    "value": "output",
    "down": "input",
}
"""The layers of a block that are scaled, and the side that is scaled."""


class ScaledLinear(Wrapped):
    """A frozen layer whose input or output is scaled by a trained vector."""

    base: Linear

    def __init__(self, base: Linear, side: Side) -> None:
        super().__init__(base)
        self.side = side
        size = base.in_dim if side == "input" else base.out_dim
        self.scale = nn.Parameter(torch.ones(size, device=base.device))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out) from (N, in)."""
        scale = self.scale.to(x.dtype)
        y: Tensor = self.base(x * scale) if self.side == "input" else self.base(x) * scale
        return y

    @torch.no_grad()
    def merged(self) -> Linear:
        """Return a plain layer with the scale in its weights, equal to this one up to rounding."""
        weight = self.base.dense(torch.float32)
        bias = None if self.base.bias is None else self.base.bias.float().clone()
        if self.side == "input":
            return Linear.holding(weight * self.scale, bias)
        bias = None if bias is None else bias * self.scale
        return Linear.holding(weight * self.scale[:, None], bias)


class IA3(Method):
    """Train vectors that scale the keys, the values and the feed-forward layer's activations."""

    kind: Literal["ia3"] = "ia3"
    default_learning_rate: ClassVar[float] = 1e-2

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze the model and put the vectors into every block."""
        freeze(model)
        for block in model.blocks:
            for name, side in SCALED.items():
                path = model.layers[name]
                base = block.get_submodule(path)
                assert isinstance(base, Linear)
                block.set_submodule(path, ScaledLinear(base, side))

    def to_peft(self, model: LanguageModel) -> PeftAdapter:
        """Return the vectors: (out, 1) if they scale outputs, (1, in) if they scale inputs."""
        scales = {
            name: layer.scale.detach().unsqueeze(0 if layer.side == "input" else 1)
            for name, layer in model.named_modules()
            if isinstance(layer, ScaledLinear)
        }
        return ia3_adapter(model, scales)
