"""Full fine-tuning: every weight is trained."""

from typing import ClassVar, Literal

import torch

from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.method import Method, train
from tunewise.models import LanguageModel


class Full(Method):
    """Train every weight. A tied output layer stays tied."""

    kind: Literal["full"] = "full"
    default_learning_rate: ClassVar[float] = 3e-4
    trains_everything: ClassVar[bool] = True

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Make everything trainable."""
        train(model)
