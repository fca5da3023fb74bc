"""The base classes of every method: `Method`, its settings, and `Wrapped`, a layer it has changed.

A method states everything about itself here: which weights it trains, whether they can be merged
into the model, and how PEFT writes them. No other part of the package knows a method by its name.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import nn

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.models import LanguageModel
from tunewise.peft.write import PeftAdapter
from tunewise.settings import Settings


class Method(Settings):
    """A way to fine-tune: which weights are trained, and which are added."""

    kind: str
    default_learning_rate: ClassVar[float]
    """Default learning rate: a starting point, chosen for AdamW on the embedded model."""
    trains_everything: ClassVar[bool] = False
    """Whether every weight is trained, so that a run saves a whole model and not an adapter."""
    why_not_merged: ClassVar[str | None] = None
    """Why the trained weights cannot be merged into the model; None if they can: see `merge`."""

    def resolve(self, family: type[LanguageModel]) -> Self:
        """Return the method with the settings filled in that depend on the family of the model."""
        return self

    @property
    def num_virtual_ids(self) -> int:
        """Number of virtual ids, past the vocabulary, that stand before every sequence."""
        return 0

    @property
    def num_prefix_positions(self) -> int:
        """Number of positions before every sequence that a prefix of keys and values takes."""
        return 0

    @abstractmethod
    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Change the model in place: freeze weights, and add layers and weights.

        A model on the meta device is only shaped, which is enough to count parameters.

        Args:
            generator: the source of fresh weights.
            tokenizer: reads the text of a method that starts from one.

        Raises:
            ConfigError: if the method needs what the model does not have.
        """

    def say_origin(self, model: str, labels: Sequence[str] | None) -> None:
        """Say what is to be known of the adapter that the method starts from, if there is one.

        Args:
            model: the name of the run's model.
            labels: the names of the labels, if the model has a label layer.
        """

    def to_peft(self, model: LanguageModel) -> PeftAdapter | None:
        """Return the trained weights in PEFT's format; None if PEFT has no such method.

        Args:
            model: a model that this method has adapted, in fp32.
        """
        return None


class Wrapped(nn.Module, ABC):
    """A layer that replaces one of the model's own, and keeps that one as `base`."""

    base: nn.Module

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.lr_ratios: Mapping[str, float] = {}
        """Learning-rate multipliers of this layer's own parameters, by name; 1 if not named."""

    @abstractmethod
    def merged(self) -> nn.Module:
        """Return a plain layer, equal to this one up to rounding.

        Raises:
            ConfigError: if there is no such layer; it gives the method's `why_not_merged`.
        """


def unwrapped(layer: nn.Module) -> nn.Module:
    """Return the model's own layer, whether or not a method has wrapped it."""
    return unwrapped(layer.base) if isinstance(layer, Wrapped) else layer


def unwrapped_name(name: str) -> str:
    """Return the name of a parameter before a method wrapped its layer."""
    return name.replace(".base.", ".")


def merge(model: LanguageModel) -> None:
    """Replace every wrapped layer of a model by a plain one.

    Raises:
        ConfigError: if a layer cannot be merged.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Wrapped):
                setattr(module, name, child.merged().requires_grad_(False))
    left = dict(model.named_parameters(remove_duplicate=False))
    kept = {"head.weight"}.union(*(stored.ours for stored in model.stored_tensors()))
    lost = kept - left.keys()
    assert not lost, f"{lost}: a layer that a method puts around it must be a Wrapped"
    if dropped := [name for name, _ in model.trainable() if name not in kept]:
        raise ConfigError(f"{dropped[0]!r} was trained, and a model's own weights cannot hold it")


def freeze(model: LanguageModel) -> None:
    """Freeze everything but a label layer, which is new and therefore always trained."""
    model.requires_grad_(False)
    if model.num_labels is not None:
        model.head.requires_grad_(True)


def train(part: nn.Module) -> None:
    """Train all of a part of a model.

    Raises:
        ConfigError: if a weight is stored in fewer bits, which cannot be trained.
    """
    if not all(parameter.is_floating_point() for parameter in part.parameters()):
        raise ConfigError(
            "method: weights that are stored in fewer bits cannot be trained; choose a method that "
            "adds weights of its own, such as lora"
        )
    part.requires_grad_(True)


def train_head(model: LanguageModel) -> None:
    """Train the output layer, with a weight of its own if it shared the token embedding's."""
    model.untie_head()
    train(model.head)


def refuse_settings(method: Method, allowed: Collection[str]) -> None:
    """Raise ValueError if a method that starts `from` an adapter sets a field that it decides.

    Args:
        allowed: the fields that can be set.
    """
    for name, field in type(method).model_fields.items():
        if name not in ("kind", *allowed) and getattr(method, name) != field.default:
            raise ValueError(f"{name}: the adapter in `from` decides it; leave it out")
