"""Last layer: only the output layer is trained, a linear model on frozen features."""

from typing import ClassVar, Literal

import torch

from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.method import Method, freeze, train_head
from tunewise.models import LanguageModel


class LastLayer(Method):
    """Train the output layer; everything below it is frozen."""

    kind: Literal["last_layer"] = "last_layer"
    default_learning_rate: ClassVar[float] = 5e-3

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze all but the output layer."""
        freeze(model)
        train_head(model)
