"""BitFit: only the biases are trained (https://arxiv.org/abs/2106.10199)."""

from typing import ClassVar, Literal

import torch

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.methods.method import Method, freeze
from tunewise.models import LanguageModel


class BitFit(Method):
    """Train the biases of all linear layers and norms."""

    kind: Literal["bitfit"] = "bitfit"
    default_learning_rate: ClassVar[float] = 3e-3

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze all but the biases."""
        freeze(model)
        biases = [p for name, p in model.named_parameters() if name.endswith(".bias")]
        if not biases:
            raise ConfigError(
                "method: bitfit trains biases, and this model has none; choose another method"
            )
        for bias in biases:
            bias.requires_grad_(True)
