"""What every family is made of: embeddings, pre-norm blocks, a final norm, an output layer.

A family (`gpt2.py`, `gpt_neo.py`) is a configuration and the choice of parts. The forward pass
takes packed tokens: (N,) ids, each with its position in its sequence and its sequence's number.
"""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunewise.models.attention import Attention, Run, runs_of
from tunewise.models.cache import Cache, Past
from tunewise.models.fast.recompute import cheap, recomputing
from tunewise.models.layers import FeedForward, Linear
from tunewise.settings import Settings

INITIAL_STD = 0.02
"""Standard deviation of fresh weights (GPT-2, section 2.3; both families use it)."""


class ModelConfig(Settings):
    """The shape of a language model, in our words."""

    family: str
    vocabulary_size: int = Field(gt=0)
    context_length: int = Field(gt=0)
    """How many positions the model knows."""
    model_dim: int = Field(gt=0)
    num_heads: int = Field(gt=0)
    num_layers: int = Field(gt=0)
    mlp_dim: int = Field(gt=0)
    norm_epsilon: float = Field(default=1e-5, ge=0)
    tied: bool = True
    """Whether the output layer shares its weight with the token embedding."""

    @model_validator(mode="after")
    def _heads_part_the_width(self) -> Self:
        if self.model_dim % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not part a width of {self.model_dim}")
        return self

    @classmethod
    @abstractmethod
    def from_hugging_face(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return our fields from those of a Hugging Face config.json."""

    @abstractmethod
    def to_hugging_face(self) -> dict[str, Any]:
        """Return the fields of a Hugging Face config.json."""


class Stored(NamedTuple):
    """One tensor of a checkpoint and where it goes."""

    theirs: str
    """Its name there, without the prefix."""
    ours: tuple[str, ...]
    """Our parameters; several if theirs is fused: its output axis is parted, in this order."""
    transposed: bool = False
    """Whether it is (in, out) there: the Conv1D of GPT-2."""


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): the pre-norm residual block."""

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        feed_forward_norm: nn.Module,
        feed_forward: FeedForward,
    ) -> None:
        super().__init__()
        self.attention_norm = attention_norm
        self.attention = attention
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.dropout = 0.0

    def forward(
        self, x: Tensor, runs: list[Run], past: Past | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Return (N, D) from (N, D), or of (M,) `rows` alone (M, D)."""
        mixed = self.attention(cheap(self.attention_norm, x), runs, past, rows)
        x = (x if rows is None else x.index_select(0, rows)) + self._drop(mixed)
        return x + self._drop(self.feed_forward(cheap(self.feed_forward_norm, x)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class LanguageModel(nn.Module):
    """A decoder: tokens to hidden states to logits.

    With a label layer in place of its output layer (`use_label_head`) it is a classifier, and
    nothing else changes: the logits of a text's last token are over labels.
    """

    language_architecture: ClassVar[str]
    """Hugging Face's name of the model with its output layer over the vocabulary."""
    label_architecture: ClassVar[str]
    """Hugging Face's name of the model with an output layer over labels."""
    prefix: ClassVar[str]
    """What stands before the name of every tensor but the output layer's; some files omit it."""
    fixed: ClassVar[Mapping[str, Any]]
    """Fields of a Hugging Face config.json that can have only this value here."""
    buffers_of_old_files: ClassVar[str]
    """A pattern of tensors that old checkpoints hold and nobody needs, such as causal masks."""

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
        self.compute_dtype = torch.float32
        self.dropout = 0.0
        self.checkpointing = False
        self.first_position = 0
        """Of a sequence's first token; a prefix of keys and values takes those before it."""
        if config.tied:
            self.tie_head()

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor,
        segments: Tensor,
        cache: Cache | None = None,
        states: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return the hidden states (N, D) after the final norm.

        Args:
            tokens: (N,) ids.
            positions: (N,) each token's place in its own sequence.
            segments: (N,) the number of its sequence; a sequence's tokens are neighbours.
            cache: what the model has read before, which these tokens are added to.
            states: (N, D) what `frozen_states` has made of these tokens, which goes on from there.
            rows: (M,) the tokens whose states are wanted, and returned as (M, D). The last block
                computes no others but for their keys and values.
        """
        if states is None:
            x, first = self._embedded(tokens, positions), 0
        else:
            x, first = states.to(self.compute_dtype), self.frozen_depth
        parts = range(first, len(self.blocks) + 1)
        return self._through(x, runs_of(segments), parts, cache, rows)

    @property
    def frozen_depth(self) -> int:
        """How many blocks, from the first on, hold nothing that is trained.

        0 if an embedding is trained; one more than there are if the final norm is frozen too.
        """
        if _is_trained(self.token_embedding) or _is_trained(self.position_embedding):
            return 0
        parts = [*self.blocks, self.final_norm]
        return next((depth for depth, part in enumerate(parts) if _is_trained(part)), len(parts))

    def frozen_states(
        self, tokens: Tensor, positions: Tensor, segments: Tensor, rows: Tensor | None = None
    ) -> Tensor:
        """Return what the first `frozen_depth` blocks make of tokens, (N, D); see `hidden`."""
        x = self._embedded(tokens, positions)
        return self._through(x, runs_of(segments), range(self.frozen_depth), rows=rows)

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x = self.token_embedding(tokens)  # (N, D)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions + self.first_position)
        return F.dropout(x.to(self.compute_dtype), self.dropout, self.training)

    def _through(
        self,
        x: Tensor,
        runs: list[Run],
        parts: range,
        cache: Cache | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return (N, D) from (N, D), through blocks by number; after the last comes the norm."""
        last = len(self.blocks) - 1
        if rows is not None and last not in parts:
            x = x.index_select(0, rows)
        for index in parts:
            wanted = rows if index == last else None
            if index > last:
                x = self.final_norm(x)
            elif self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(self.blocks[index], x, runs, None, wanted, use_reentrant=False)
            else:
                past = None if cache is None else cache.layers[index]
                with recomputing(x):
                    x = self.blocks[index](x, runs, past, wanted)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (M, V) from hidden states (M, D): over the vocabulary, or over labels."""
        logits: Tensor = self.head(hidden)
        return logits

    @abstractmethod
    def stored_tensors(self) -> Iterator[Stored]:
        """Yield the tensors of a Hugging Face checkpoint, the output layer left out."""

    def ignores(self, name: str) -> bool:
        """Return whether a checkpoint's tensor is of no use here and may be passed over."""
        heads = ("lm_head.weight", "score.weight")
        return name in heads or re.fullmatch(self.buffers_of_old_files, name) is not None

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
        """Set the three usual places: after the embeddings, on attention weights, on residuals."""
        self.dropout = dropout
        for module in self.modules():
            if isinstance(module, (Block, Attention)):
                module.dropout = dropout

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in `dtype`: frozen weights are stored in it, trained ones are fp32 masters."""
        self.compute_dtype = dtype
        for parameter in self.parameters():
            wanted = torch.float32 if parameter.requires_grad else dtype
            # A file may hold it transposed: it is turned and rounded in one copy.
            stored = parameter.data.to(wanted, memory_format=torch.contiguous_format)
            parameter.data = stored.contiguous()

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the name and parameter of everything that is trained."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)

    def count_parameters(self) -> tuple[int, int]:
        """Return how many numbers the model holds in all, and how many of them are trained."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return total, sum(parameter.numel() for _, parameter in self.trainable())


def _embedding(num_embeddings: int, model_dim: int) -> nn.Embedding:
    """Return an embedding of arbitrary values, as `Linear` has at first."""
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
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            residual = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
            nn.init.normal_(
                parameter, std=residual_std if residual else INITIAL_STD, generator=generator
            )
