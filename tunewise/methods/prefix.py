"""Prefix tuning: trained keys and values before every sequence, in every layer (https://arxiv.org/abs/2101.00190).

Attention of each layer sees [P_k; K] and [P_v; V], with P_k and P_v of shape (P, D). The prefix
starts as what the frozen model makes of P tokens of text, so a fresh model is the frozen one that
has read them. It is trained as it is, without the paper's reparametrisation by an MLP.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.method import Method, freeze
from tunewise.methods.virtual_tokens import choose_ids, require_room_for_text
from tunewise.models import LanguageModel
from tunewise.models.attention import Prefix
from tunewise.models.cache import Cache
from tunewise.models.language_model import Block
from tunewise.peft.write import PeftAdapter, virtual_tokens_adapter


class PrefixTuning(Method):
    """Train keys and values that stand before those of every sequence."""

    kind: Literal["prefix"] = "prefix"
    default_learning_rate: ClassVar[float] = 3e-2
    why_not_merged: ClassVar[str | None] = "trained keys and values are no weights of a model"
    tokens: int = Field(default=12, gt=0, le=2**16)
    """How many keys and values in each layer."""
    text: str | None = Field(default=None, min_length=1)
    """The text to start from, repeated or cut to that number; without it, random tokens."""

    @property
    def num_prefix_positions(self) -> int:
        """How many positions the prefix takes: one for each of its keys and values."""
        return self.tokens

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze the model and give the attention of every block a prefix."""
        require_room_for_text(self.tokens, model)
        freeze(model)
        first_values = self._first_values(model, generator, tokenizer)
        for block, (keys, values) in zip(model.blocks, first_values, strict=True):
            assert isinstance(block, Block)
            block.attention.prefix = Prefix(keys, values)
        model.first_position = self.tokens

    def to_peft(self, model: LanguageModel) -> PeftAdapter:
        """Return the prefix, (P, 2 · layers · D): each layer's keys, then its values."""
        parts: list[Tensor] = [
            block.get_parameter(f"attention.prefix.{part}")
            for block in model.blocks
            for part in ("keys", "values")
        ]
        return virtual_tokens_adapter(model, "PREFIX_TUNING", torch.cat(parts, dim=1))

    @torch.no_grad()
    def _first_values(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values (P, D) of each layer to start from, in fp32."""
        device = model.get_parameter("token_embedding.weight").device
        if device.type == "meta":
            empty = torch.empty(self.tokens, model.config.model_dim, device=device)
            return [(empty, empty)] * model.config.num_layers
        ids = choose_ids(self.tokens, self.text, model, generator, tokenizer)
        cache = Cache(model.config.num_layers, [self.tokens], room=0, max_rows=1, device=device)
        model.hidden(ids, torch.arange(self.tokens), torch.zeros_like(ids), cache)
        return [(_join_heads(layer.keys), _join_heads(layer.values)) for layer in cache.layers]


def _join_heads(heads: Tensor) -> Tensor:
    """Return (P, D) from (1, H, P, K)."""
    return heads.squeeze(0).transpose(0, 1).flatten(1)
