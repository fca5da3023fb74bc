"""LoRA: trainable updates of low rank beside frozen layers (https://arxiv.org/abs/2106.09685).

W x becomes W x + scale · B A x, with A of shape (R, in) and B of shape (out, R). A fresh model is
the frozen one. One pair costs R · (in + out) parameters, DoRA's magnitude `out` more.
"""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, nearest
from tunewise.methods.lora_layers import DoRALinear, Init, LoRALinear
from tunewise.methods.method import Method, freeze, refuse_settings
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.layers import Linear
from tunewise.peft.origin import say_origin
from tunewise.peft.read import Folder, read_lora, set_label_layer
from tunewise.peft.write import PeftAdapter, lora_adapter

logger = logging.getLogger(__name__)

HEAD = "head"
"""The target that names the output layer."""
TARGETS = (*dict.fromkeys(name for family in FAMILIES.values() for name in family.layers), HEAD)
"""The targets of any family: the linear layers of a block, and the output layer."""


class LoRA(Method):
    """Train low-rank updates of chosen layers in chosen blocks."""

    kind: Literal["lora"] = "lora"
    default_learning_rate: ClassVar[float] = 1e-3
    rank: int = Field(default=8, gt=0, le=2**16)
    """Inner dimension of the update."""
    alpha: float = Field(default=16.0, gt=0)
    """Strength of the update; see `scaling`."""
    scaling: Literal["alpha/r", "alpha/sqrt(r)", "alpha"] = "alpha/r"
    """Factor of the update: LoRA's, rsLoRA's (https://arxiv.org/abs/2312.03732), or alpha."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the update's input."""
    init: Init = "kaiming"
    """Initial values of A: uniform within ±1/sqrt(in), as in PEFT, or normal(0, 1/rank). With
    `pissa`, B A starts as the part of W with the largest singular values, subtracted from W."""
    dora: bool = False
    """Whether the length of each row of W + scale · B A is trained apart from its direction."""
    loraplus_lr_ratio: float = Field(default=1.0, gt=0)
    """Learning rate of B, and of DoRA's lengths, over that of A (LoRA+)."""
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Layers with an update: query, key, value, out, up, down, head; others if the model has them.
    Without it, all linear layers of a block."""
    blocks: str | tuple[int, ...] = "all"
    """Blocks with an update: `all`, `last-K`, or a list of numbers from 0."""
    from_: Folder | None = Field(default=None, alias="from")
    """The folder of an adapter that PEFT wrote, to continue from; it decides all but `dropout` and
    `loraplus_lr_ratio`."""

    @field_validator("targets")
    @classmethod
    def _targets_exist(cls, targets: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for target in targets or ():
            if target not in TARGETS:
                raise ValueError(f"no layer {target!r}; {nearest(target, TARGETS)}")
        if targets is not None and len(set(targets)) < len(targets):
            raise ValueError("a layer is named twice")
        return targets

    @field_validator("blocks")
    @classmethod
    def _blocks_are_readable(cls, blocks: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(blocks, str) and not re.fullmatch(r"all|last-[1-9]\d*", blocks):
            raise ValueError(f"{blocks!r} is not `all`, `last-K` or a list of block numbers")
        if not isinstance(blocks, str) and (not blocks or len(set(blocks)) < len(blocks)):
            raise ValueError("the list is empty or names a block twice")
        return blocks

    @model_validator(mode="after")
    def _nothing_is_set_that_the_adapter_decides(self) -> Self:
        if self.from_ is not None:
            refuse_settings(self, allowed=("from_", "dropout", "loraplus_lr_ratio"))
        return self

    @property
    def scale(self) -> float:
        """The factor of the update."""
        if self.scaling == "alpha":
            return self.alpha
        return self.alpha / (self.rank if self.scaling == "alpha/r" else math.sqrt(self.rank))

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze the model and put an update beside every chosen layer."""
        targets = self._targets_in(type(model))
        if HEAD in targets and model.num_labels is not None:
            raise ConfigError(
                "method.targets: 'head' is the new label layer here, which is trained in full; "
                f"choose from {', '.join(model.layers)}"
            )
        freeze(model)
        if self.from_ is not None:
            stored = read_lora(self.from_, model)
            set_label_layer(model, stored.label_layer)
            for name, update in stored.updates.items():
                is_dora = update.magnitude is not None
                self._wrap(model, name, len(update.a), update.scale, is_dora).load(update)
            return
        for name in self._chosen_layers(model, targets):
            layer = self._wrap(model, name, self.rank, self.scale, self.dora)
            max_rank = min(layer.base.in_dim, layer.base.out_dim)
            if self.init == "pissa" and self.rank > max_rank:
                raise ConfigError(
                    f"method.rank: {self.rank} asked for; {name.rpartition('.')[2]} has {max_rank} "
                    "singular values"
                )
            layer.initialise(self.init, generator)

    def say_origin(self, model: str, labels: Sequence[str] | None) -> None:
        """Say whether the adapter in `from` was made for another model; nothing without one."""
        if self.from_ is not None:
            say_origin(self.from_, "LORA", model, labels)

    def to_peft(self, model: LanguageModel) -> PeftAdapter:
        """Return the updates; those of layers that are fused in transformers are joined."""
        updates = {
            name: layer.update()
            for name, layer in model.named_modules()
            if isinstance(layer, LoRALinear)
        }
        return lora_adapter(model, updates, self.scaling == "alpha/sqrt(r)", self.dropout)

    def _wrap(
        self, model: LanguageModel, name: str, rank: int, scale: float, dora: bool
    ) -> LoRALinear:
        """Put an update beside a layer, and return both as one."""
        base = model.get_submodule(name)
        assert isinstance(base, Linear)
        layer = (DoRALinear if dora else LoRALinear)(base, rank, scale, self.dropout)
        layer.lr_ratios = {"B": self.loraplus_lr_ratio, "magnitude": self.loraplus_lr_ratio}
        model.set_submodule(name, layer)
        return layer

    def resolve(self, family: type[LanguageModel]) -> Self:
        """Return the method with its targets in this family filled in."""
        if self.from_ is not None:
            return self
        return self.model_copy(update={"targets": self._targets_in(family)})

    def _targets_in(self, family: type[LanguageModel]) -> tuple[str, ...]:
        """Return the chosen targets.

        Raises:
            ConfigError: if the family does not have one.
        """
        if self.targets is None:
            return tuple(family.layers)
        known = (*family.layers, HEAD)
        if missing := [target for target in self.targets if target not in known]:
            hint = nearest(missing[0], known)
            raise ConfigError(f"method.targets: this model has no layer {missing[0]!r}; {hint}")
        return self.targets

    def _chosen_layers(self, model: LanguageModel, targets: tuple[str, ...]) -> Iterator[str]:
        """Yield the name of every chosen layer, from the input to the output."""
        if targets == (HEAD,) and self.blocks != "all" and not model.dense("head.weight").is_meta:
            logger.warning("method.blocks: %s changes nothing: 'head' is in no block", self.blocks)
        for block in self._chosen_blocks(model.config.num_layers):
            for target, path in model.layers.items():
                if target in targets:
                    yield f"blocks.{block}.{path}"
        if HEAD in targets:
            yield HEAD

    def _chosen_blocks(self, num_layers: int) -> list[int]:
        if self.blocks == "all":
            return list(range(num_layers))
        if isinstance(self.blocks, str):
            count = int(self.blocks.removeprefix("last-"))
            if count > num_layers:
                raise ConfigError(
                    f"method.blocks: the last {count} asked for; the model has {num_layers}"
                )
            return list(range(num_layers - count, num_layers))
        if wrong := [index for index in self.blocks if not 0 <= index < num_layers]:
            raise ConfigError(
                f"method.blocks: no block {wrong[0]}; the model has 0 to {num_layers - 1}"
            )
        return sorted(self.blocks)
