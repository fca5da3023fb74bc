"""Last blocks: the last k blocks, the final norm and the output layer are trained."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.methods.method import Method, freeze, train, train_head
from tunewise.models import LanguageModel


class LastBlocks(Method):
    """Train the top of the model."""

    kind: Literal["last_blocks"] = "last_blocks"
    default_learning_rate: ClassVar[float] = 1e-3
    blocks: int = Field(default=2, gt=0)
    """Number of trained blocks, counted from the output."""

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze all but the last blocks, the final norm and the output layer."""
        num_layers = model.config.num_layers
        if self.blocks > num_layers:
            raise ConfigError(f"method.blocks: {self.blocks} asked for; the model has {num_layers}")
        freeze(model)
        train(model.blocks[-self.blocks :])
        model.final_norm.requires_grad_(True)
        train_head(model)
