"""The base class of all families: embeddings, pre-norm blocks, a final norm, an output layer.

A family (`gpt2.py`, `gpt_neo.py`) is a configuration, a choice of parts, and the names of both in
Hugging Face's files. The forward pass takes packed tokens: a `Batch`.

Shapes: N packed tokens, M scored ones, D model_dim, V vocabulary.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunewise.data.packing import Batch, Group
from tunewise.errors import ModelError
from tunewise.models.attention import Attention
from tunewise.models.cache import Cache, Past
from tunewise.models.config import ModelConfig
from tunewise.models.fast.recompute import recomputing
from tunewise.models.layers import Linear
from tunewise.models.names import Mapped, TensorName, expand
from tunewise.models.packed import Places
from tunewise.models.weights import not_finite

INITIAL_STD = 0.02
"""Standard deviation of fresh weights (GPT-2, section 2.3)."""


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): the pre-norm residual block."""

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        feed_forward_norm: nn.Module,
        feed_forward: nn.Module,
    ) -> None:
        super().__init__()
        self.attention_norm = attention_norm
        self.attention = attention
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.dropout = 0.0

    def forward(self, x: Tensor, places: Places, past: Past | None = None) -> Tensor:
        """Return (N, D) from (N, D)."""
        x = x + self._drop(self.attention(self.attention_norm(x), places, past))
        return x + self._drop(self.feed_forward(self.feed_forward_norm(x)))

    def forward_rows(
        self, rows: Tensor, x: Tensor, places: Places, past: Past | None = None
    ) -> Tensor:
        """Return the result of `forward` for some rows (M,) only, (M, D).

        Of the other rows, only keys and values are computed.
        """
        context = self.attention.context(self.attention_norm(x), places, past)
        mixed = self.attention.out(context.index_select(0, rows))
        x = x.index_select(0, rows) + self._drop(mixed)
        return x + self._drop(self.feed_forward(self.feed_forward_norm(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class LanguageModel(nn.Module):
    """A decoder: tokens to hidden states to logits.

    With a label layer in place of its output layer (`use_label_head`) it is a classifier, and
    nothing else changes: the logits of a text's last token are over labels.
    """

    layers: ClassVar[Mapping[str, str]] = {
        "query": "attention.query",
        "key": "attention.key",
        "value": "attention.value",
        "out": "attention.out",
        "up": "feed_forward.up",
        "down": "feed_forward.down",
    }
    """The linear layers of a block: the name that a method's settings use, and the path."""
    residual_layers: ClassVar[tuple[str, ...]] = ("out", "down")
    """Those of them that write to the residual stream."""
    model_type: ClassVar[str]
    """Hugging Face's name of the family in config.json."""
    config_type: ClassVar[type[ModelConfig]]
    """The family's own configuration."""
    language_architecture: ClassVar[str]
    """Hugging Face's name of the model with its output layer over the vocabulary."""
    label_architecture: ClassVar[str]
    """Hugging Face's name of the model with an output layer over labels."""
    name_prefix: ClassVar[str]
    """Hugging Face's prefix of the name of every tensor but the output layer's; some files omit
    it."""
    block_name: ClassVar[str]
    """Hugging Face's name of a block, with {} for its number, after the name prefix."""
    tensor_names: ClassVar[tuple[Mapped, ...]]
    """The tensors of a Hugging Face checkpoint, the output layer left out."""
    fixed: ClassVar[Mapping[str, Any]]
    """Fields of a Hugging Face config.json of which only this value is supported here."""
    buffers_of_old_files: ClassVar[str]
    """A pattern of tensors in old checkpoints that are not needed, such as causal masks."""

    def __init__(
        self,
        config: ModelConfig,
        blocks: list[Block],
        final_norm: nn.Module,
        positions: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.token_embedding: nn.Module = _embedding(config.vocabulary_size, config.model_dim)
        self.position_embedding = (
            _embedding(config.context_length, config.model_dim) if positions else None
        )
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = final_norm
        self.head: nn.Module = Linear(config.model_dim, config.vocabulary_size, bias=False)
        self.num_labels: int | None = None
        self.source = "the model"
        """The folder that the weights are from, for messages."""
        self.compute_dtype = torch.float32
        self.dropout = 0.0
        self.checkpointing = False
        self.first_position = 0
        """The position of a sequence's first token; a trained prefix takes those before it."""
        if config.tied:
            self.tie_head()

    def hidden(self, batch: Batch, cache: Cache | None = None) -> Tensor:
        """Return the hidden states of all tokens, (N, D), after the final norm.

        A batch whose `states` are known, see `frozen_states`, starts from them.

        Args:
            cache: keys and values of the earlier tokens, to which those of the batch are added.
        """
        return self._hidden(batch, cache, rows=None)

    def scored_hidden(self, batch: Batch, cache: Cache | None = None) -> Tensor:
        """Return the hidden states of the scored tokens alone, (M, D); see `hidden`.

        Of the other tokens, the last block computes only keys and values.
        """
        return self._hidden(batch, cache, rows=batch.scored)

    def next_hidden(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Return the hidden states (B, D) of one more token (B,) of every row of a cache."""
        places = self._places(cache.advance(), [Group(len(tokens), 1)])
        x = self._embed(tokens, places)
        return self._through(x, places, range(len(self.blocks) + 1), cache)

    def _hidden(self, batch: Batch, cache: Cache | None, rows: Tensor | None) -> Tensor:
        places = self._places(batch.positions, batch.groups)
        if batch.states is None:
            x, first = self._embed(batch.tokens, places), 0
        else:
            x, first = batch.states.to(self.compute_dtype), self.frozen_depth
        return self._through(x, places, range(first, len(self.blocks) + 1), cache, rows)

    @property
    def frozen_depth(self) -> int:
        """The number of blocks, from the first on, that hold no trained weight.

        It is 0 if an embedding is trained, and one more than the number of blocks if the final norm
        is frozen too.
        """
        if _is_trained(self.token_embedding) or _is_trained(self.position_embedding):
            return 0
        parts = [*self.blocks, self.final_norm]
        return next((depth for depth, part in enumerate(parts) if _is_trained(part)), len(parts))

    def frozen_states(self, batch: Batch, scored_only: bool = False) -> Tensor:
        """Return the output of the first `frozen_depth` blocks, (N, D); see `hidden`.

        Args:
            scored_only: whether only the states of the scored tokens, (M, D), are returned.
        """
        places = self._places(batch.positions, batch.groups)
        rows = batch.scored if scored_only else None
        x = self._embed(batch.tokens, places)
        return self._through(x, places, range(self.frozen_depth), rows=rows)

    def _places(self, positions: Tensor, groups: list[Group]) -> Places:
        return Places(positions + self.first_position, groups)

    def _embed(self, tokens: Tensor, places: Places) -> Tensor:
        x = self.token_embedding(tokens)  # (N, D)
        if self.position_embedding is not None:
            x = x + self.position_embedding(places.positions)
        return F.dropout(x.to(self.compute_dtype), self.dropout, self.training)

    def _through(
        self,
        x: Tensor,
        places: Places,
        parts: range,
        cache: Cache | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return (N, D) from (N, D), through blocks by number; after the last comes the norm.

        Args:
            rows: (M,) the rows to return, as (M, D); None for all.
        """
        last = len(self.blocks) - 1
        if rows is not None and last not in parts:
            x = x.index_select(0, rows)
        for index in parts:
            if index > last:
                x = self.final_norm(x)
            else:
                past = None if cache is None else cache.layers[index]
                x = self._through_block(index, x, places, past, rows if index == last else None)
        return x

    def _through_block(
        self, index: int, x: Tensor, places: Places, past: Past | None, rows: Tensor | None
    ) -> Tensor:
        """Return (N, D), or (M, D) of some rows, and save memory for the backward pass."""
        block = self.blocks[index]
        assert isinstance(block, Block)
        step = block if rows is None else partial(block.forward_rows, rows)
        if self.checkpointing and torch.is_grad_enabled():
            y: Tensor = checkpoint(step, x, places, use_reentrant=False)
            return y
        with recomputing(x):
            y = step(x, places, past)
        return y

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (M, V) from hidden states (M, D): over the vocabulary, or over labels."""
        logits: Tensor = self.head(hidden)
        return logits

    def stored_tensors(self) -> Iterator[TensorName]:
        """Yield the tensors of a Hugging Face checkpoint, the output layer left out."""
        for mapped in self.tensor_names:
            yield from expand(mapped, self.config.num_layers)

    def tie_head(self) -> None:
        """Make the output layer share the token embedding's weight."""
        self.head.weight = self.get_parameter("token_embedding.weight")

    def untie_head(self) -> None:
        """Give the output layer its own copy of the weight, so that it can be trained alone."""
        if self.head_is_tied:
            self.head.weight = nn.Parameter(self.get_parameter("head.weight").detach().clone())

    @property
    def head_is_tied(self) -> bool:
        """Whether the output layer's weight is the token embedding's."""
        return self.get_parameter("head.weight") is self.get_parameter("token_embedding.weight")

    def use_label_head(self, num_labels: int, generator: torch.Generator | None = None) -> None:
        """Replace the output layer by a fresh one over labels: normal(0, 0.02), no bias."""
        device = self.get_parameter("token_embedding.weight").device
        self.head = head = Linear(self.config.model_dim, num_labels, bias=False, device=device)
        self.num_labels = num_labels
        if device.type != "meta":
            nn.init.normal_(head.weight, std=INITIAL_STD, generator=generator)

    def set_dropout(self, dropout: float) -> None:
        """Set the dropout after the embeddings, on attention weights and on residuals."""
        self.dropout = dropout
        for module in self.modules():
            if isinstance(module, (Block, Attention)):
                module.dropout = dropout

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in `dtype`: frozen weights are stored in it, trained ones are fp32 masters.

        Raises:
            ModelError: if a weight is NaN or infinite.
        """
        self.compute_dtype = dtype
        for name, parameter in self.named_parameters():
            if not parameter.is_floating_point():  # a weight in fewer bits
                continue
            wanted = torch.float32 if parameter.requires_grad else dtype
            # A file may hold it transposed: one copy transposes and rounds it.
            stored = parameter.data.to(wanted, memory_format=torch.contiguous_format)
            parameter.data = stored.contiguous()
            # Looked for here, since here the file is read: a pass of its own would read it twice.
            if not_finite(parameter.data):
                raise ModelError(f"{self.source}: its weight {name!r} holds NaN or infinity")

    def dense(self, name: str) -> Tensor:
        """Return a parameter by its name; a linear layer's weight in full, however it is stored."""
        path, _, attribute = name.rpartition(".")
        layer = self.get_submodule(path)
        if isinstance(layer, Linear) and attribute == "weight":
            return layer.dense()
        values: Tensor = getattr(layer, attribute)
        return values

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the name and parameter of everything that is trained."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)

    def count_parameters(self) -> tuple[int, int]:
        """Return the number of all parameters, and of the trained ones."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return total, sum(parameter.numel() for _, parameter in self.trainable())


def _embedding(num_embeddings: int, model_dim: int) -> nn.Embedding:
    """Return an embedding of arbitrary values, to be filled later."""
    weight = torch.empty(num_embeddings, model_dim)
    return nn.Embedding(num_embeddings, model_dim, _weight=weight)


def _is_trained(part: nn.Module | None) -> bool:
    return part is not None and any(parameter.requires_grad for parameter in part.parameters())


def initialise(model: LanguageModel, generator: torch.Generator) -> None:
    """Give a model fresh weights as GPT-2 does: normal(0, 0.02), biases 0, norms 1.

    The layers that write to the residual stream are scaled by 1 / sqrt(2 · num_layers), so that its
    variance does not grow with depth (GPT-2, section 2.3).
    """
    residual_std = INITIAL_STD / (2 * model.config.num_layers) ** 0.5
    residual_weights = tuple(f"{model.layers[name]}.weight" for name in model.residual_layers)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            std = residual_std if name.endswith(residual_weights) else INITIAL_STD
            nn.init.normal_(parameter, std=std, generator=generator)
