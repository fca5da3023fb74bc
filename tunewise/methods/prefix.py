"""Prefix tuning: trained keys and values before every sequence, in every layer (https://arxiv.org/abs/2101.00190).

Attention of each layer sees [P_k; K] and [P_v; V], with P_k and P_v of P rows. The initial prefix
is the keys and values of P tokens of text in the frozen model, so a fresh model is the frozen one
that has read them. It is trained directly, without the paper's reparametrisation by an MLP.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tunewise.data.encode import Encoded
from tunewise.data.packing import Group, pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.method import Method, freeze
from tunewise.methods.virtual_tokens import choose_ids, require_room_for_text
from tunewise.models import LanguageModel
from tunewise.models.attention import Attention, Heads
from tunewise.models.cache import Cache, Past
from tunewise.models.language_model import Block
from tunewise.peft.write import PeftAdapter, virtual_tokens_adapter


class Prefix(nn.Module):
    """Trained keys and values, each (P, G·K) for G heads of width K."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys = nn.Parameter(keys)
        self.values = nn.Parameter(values)


class PrefixedAttention(Attention):
    """An attention layer that sees a prefix of keys and values before every sequence.

    It takes over the layers of another. The prefix is treated like P more tokens, whose own outputs
    are dropped: so the mask stays the square causal one, which the kernels know by
    themselves.
    """

    def __init__(self, base: Attention, prefix: Prefix) -> None:
        nn.Module.__init__(self)
        self.shape = base.shape
        self.dropout = base.dropout
        for name, layer in base.named_children():
            self.add_module(name, layer)
        self.prefix = prefix

    def mix(self, heads: Heads, groups: list[Group], past: Past | None) -> Tensor:
        """Return the values that each token sees, weighted, (N, H·K)."""
        if past is not None and not past.is_reading:  # the prefix is in the cache by now
            return super().mix(heads, groups, past)
        lengths = [length for count, length in groups for _ in range(count)]
        size = len(self.prefix.keys)

        def put_before(rows: Tensor, x: Tensor) -> Tensor:
            """Return (N + S·P, ...) from (N, ...): the rows before each of S sequences."""
            rows = rows.to(x.dtype)
            return torch.cat([part for own in torch.split(x, lengths) for part in (rows, own)])

        longer = Heads(
            put_before(heads.query.new_zeros(size, heads.query.shape[1]), heads.query),
            put_before(self.prefix.keys, heads.key),
            put_before(self.prefix.values, heads.value),
        )
        mixed = super().mix(longer, [Group(count, size + length) for count, length in groups], past)
        parts = torch.split(mixed, [part for length in lengths for part in (size, length)])
        return torch.cat(parts[1::2])


class PrefixTuning(Method):
    """Train keys and values that stand before those of every sequence."""

    kind: Literal["prefix"] = "prefix"
    default_learning_rate: ClassVar[float] = 3e-2
    why_not_merged: ClassVar[str | None] = "trained keys and values are not weights of a model"
    tokens: int = Field(default=12, gt=0, le=2**16)
    """Number of keys and values in each layer."""
    text: str | None = Field(default=None, min_length=1)
    """The text to start from, repeated or cut to that number; without it, random tokens."""

    @property
    def num_prefix_positions(self) -> int:
        """Number of positions that the prefix takes: one for each key and value."""
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
            block.attention = PrefixedAttention(block.attention, Prefix(keys, values))
        model.first_position = self.tokens

    def to_peft(self, model: LanguageModel) -> PeftAdapter:
        """Return the prefix, (P, 2 · layers · D): each layer's keys, then its values."""
        prefixes = [f"blocks.{index}.attention.prefix" for index in range(len(model.blocks))]
        parts: list[Tensor] = [
            model.get_parameter(f"{prefix}.{part}")
            for prefix in prefixes
            for part in ("keys", "values")
        ]
        return virtual_tokens_adapter(model, "PREFIX_TUNING", torch.cat(parts, dim=1), prefixes)

    @torch.no_grad()
    def _first_values(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values (P, D) of each layer to start from, in fp32."""
        device = model.get_parameter("token_embedding.weight").device
        if device.type == "meta":
            shapes = map(model.config.attention_shape, range(model.config.num_layers))
            empty = (
                torch.empty(self.tokens, shape.num_kv_heads * shape.head_dim, device=device)
                for shape in shapes
            )
            return [(keys, keys) for keys in empty]
        ids = choose_ids(self.tokens, self.text, model, generator, tokenizer)
        cache = Cache(model.config.num_layers, [self.tokens], room=0, max_rows=1, device=device)
        (batch,) = pack([Encoded("", ids.numpy(), 1)], tokens_per_pass=self.tokens)
        model.hidden(batch, cache)
        return [(_flat(layer.keys), _flat(layer.values)) for layer in cache.layers]


def _flat(heads: Tensor) -> Tensor:
    """Return (P, G·K) from (1, G, P, K)."""
    return heads.squeeze(0).transpose(0, 1).flatten(1)
