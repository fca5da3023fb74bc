"""Shapes of language models: the sizes that all families have; a family adds its own."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from tunewise.models.rotary import Rotary
from tunewise.settings import Settings


@dataclass(frozen=True)
class AttentionShape:
    """The sizes and options of one attention layer."""

    model_dim: int
    num_heads: int
    """Query heads, H."""
    num_kv_heads: int
    """Heads of keys and values, G: each is shared by H / G query heads."""
    head_dim: int
    scale: float | None = None
    """Factor of the logits; None is 1 / sqrt(head_dim)."""
    window: int | None = None
    """Number of tokens that a token sees, itself included; None for the whole sequence."""
    input_bias: bool = False
    """Whether query, key and value have a bias."""
    output_bias: bool = False
    rotary: Rotary | None = None
    """Rotary positions of queries and keys; None for none."""
    head_norm_epsilon: float | None = None
    """The epsilon of an RMS norm over each head of queries and keys; None for no norm."""


class ModelConfig(Settings):
    """The shape of a language model."""

    family: str
    vocabulary_size: int = Field(gt=0)
    context_length: int = Field(gt=0)
    """Number of positions of the model."""
    model_dim: int = Field(gt=0)
    num_heads: int = Field(gt=0)
    num_kv_heads: int | None = Field(default=None, gt=0)
    """Heads of keys and values; default: as many as query heads."""
    head_dim: int | None = Field(default=None, gt=0)
    """The width of a head; default: the model's width divided by the number of heads."""
    num_layers: int = Field(gt=0)
    mlp_dim: int = Field(gt=0)
    norm_epsilon: float = Field(default=1e-5, ge=0)
    tied: bool = True
    """Whether the output layer shares its weight with the token embedding."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.head_dim is None and self.model_dim % self.num_heads:
            raise ValueError(f"{self.num_heads} heads cannot share a width of {self.model_dim}")
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"{self.num_heads} query heads cannot share {self.num_kv_heads} heads of keys"
            )
        return self

    def attention_shape(self, layer: int) -> AttentionShape:
        """Return the shape of the attention of a block; a family adds more than these sizes.

        Args:
            layer: the number of the block, from 0.
        """
        return AttentionShape(
            model_dim=self.model_dim,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads or self.num_heads,
            head_dim=self.head_dim or self.model_dim // self.num_heads,
        )

    @classmethod
    @abstractmethod
    def from_hugging_face(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return our fields from those of a Hugging Face config.json."""

    @abstractmethod
    def to_hugging_face(self) -> dict[str, Any]:
        """Return the fields of a Hugging Face config.json."""
