"""What every method is: settings, and one verb that changes a model in place."""

from abc import abstractmethod
from typing import ClassVar, Protocol, runtime_checkable

import torch

from tunewise.data.tokenizer import Tokenizer
from tunewise.models import LanguageModel
from tunewise.models.layers import Linear
from tunewise.settings import Settings


class Method(Settings):
    """A way to fine-tune: which numbers are trained, and which are added."""

    kind: str
    default_learning_rate: ClassVar[float]
    """The rate used where none is given: a start, chosen for AdamW on the embedded model."""

    @property
    def prefix_length(self) -> int:
        """How many virtual tokens precede every sequence; their ids lie past the vocabulary."""
        return 0

    @property
    def prefix_positions(self) -> int:
        """How many positions before every sequence are taken by what has no token."""
        return 0

    @abstractmethod
    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Change the model in place: freeze what is not trained, add what is.

        A model on the meta device is only shaped, which is enough to count parameters.

        Args:
            generator: the source of fresh weights.
            tokenizer: reads the text of a method that starts from one.

        Raises:
            ConfigError: if the method asks for what the model does not have.
        """


def freeze(model: LanguageModel) -> None:
    """Freeze everything but a label layer, which is new and therefore always trained."""
    model.requires_grad_(False)
    if model.num_labels is not None:
        model.head.requires_grad_(True)


def train_head(model: LanguageModel) -> None:
    """Train the output layer, parted from the token embedding that it may share its weight with."""
    model.untie_head()
    model.head.requires_grad_(True)


@runtime_checkable
class Mergeable(Protocol):
    """A layer that a method has put in the place of a plain one, and that can be one again."""

    def merged(self) -> Linear:
        """Return a plain layer that computes the same up to rounding."""


def merge(model: LanguageModel) -> None:
    """Replace every layer of a model that can be merged by a plain one."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Mergeable):
                setattr(module, name, child.merged().requires_grad_(False))
