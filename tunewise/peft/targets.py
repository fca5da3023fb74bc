"""The layers that an adapter's configuration asks for, by PEFT's own rules."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewise.errors import ModelError
from tunewise.models import LanguageModel
from tunewise.models.layers import Linear
from tunewise.peft.config import MERGE, made_for, matches, names_in, pattern_or_names
from tunewise.peft.names import has_weights, layer_in_block, layers_of_transformers

logger = logging.getLogger(__name__)

ALL_LINEAR = "all-linear"
"""The value of target_modules that stands for every linear layer of every block."""


def targeted_layers(config: Mapping[str, Any], model: LanguageModel, where: Path) -> list[str]:
    """Return the layers of transformers to which PEFT gives an update in this model.

    Args:
        where: the configuration's file, for messages.

    Raises:
        ModelError: if there is none, or one is not a linear layer.
    """
    layers = layers_of_transformers(model)
    linear = [
        theirs
        for theirs, (first, *_) in layers.items()
        if isinstance(model.get_submodule(first), Linear)
    ]
    in_blocks = {t: place for t in linear if (place := layer_in_block(t, model)) is not None}
    has = f"this model has {', '.join(dict.fromkeys(place.name for place in in_blocks.values()))}"
    if str(config.get("target_modules")).lower() == ALL_LINEAR:
        config = {**config, "target_modules": list(in_blocks)}
    rules = _Rules(config, model, where)
    targeted = [theirs for theirs in layers if rules.target(theirs)]
    if not targeted:
        raise ModelError(
            f"{where}: no layer of this model is chosen by target_modules {rules.targets!r}; {has}"
            f"{made_for(config)}"
        )
    if other := [theirs for theirs in targeted if theirs not in linear]:
        raise ModelError(
            f"{where}: target_modules names {other[0]!r}, which is no linear layer: not supported; "
            f"{MERGE}"
        )
    if not has_weights(model):
        return targeted
    names = [] if isinstance(rules.targets, str) else rules.targets
    if unknown := [name for name in names if not any(_ends_in(t, name) for t in layers)]:
        logger.warning("%s: no layer is called %s; %s", where, ", ".join(unknown), has)
    if beyond := [block for block in rules.blocks if not 0 <= block < model.config.num_layers]:
        last = model.config.num_layers - 1
        logger.warning("%s: there is no block %d; the last is %d", where, beyond[0], last)
    return targeted


class _Rules:
    """The rules of PEFT's `check_target_module_exists`."""

    def __init__(self, config: Mapping[str, Any], model: LanguageModel, where: Path) -> None:
        self.model = model
        self.where = where
        self.targets = pattern_or_names(config, "target_modules", where)
        self.excluded = pattern_or_names(config, "exclude_modules", where)
        self.saved = names_in(config, "modules_to_save", where)
        self.block_lists = names_in(config, "layers_pattern", where)
        blocks = config.get("layers_to_transform")
        self.blocks = [blocks] if type(blocks) is int else blocks or []
        if type(self.blocks) is not list or any(type(block) is not int for block in self.blocks):
            raise ModelError(f"{where}: layers_to_transform is {blocks!r}; a list is needed")

    def target(self, theirs: str) -> bool:
        """Return whether a layer has an update."""
        if self._is_one_of(theirs, self.excluded, "exclude_modules"):
            return False
        if any(f".{name}." in f".{theirs}." for name in self.saved):
            return False
        if not self._is_one_of(theirs, self.targets, "target_modules"):
            return False
        is_named_in_full = isinstance(self.targets, str) or theirs in self.targets
        return is_named_in_full or self._is_in_chosen_block(theirs)

    def _is_one_of(self, theirs: str, names: str | list[str], field: str) -> bool:
        """Return whether a name matches a pattern, or ends in one of some names."""
        if isinstance(names, str):
            return matches(names, theirs, f"{self.where}: {field}")
        return any(_ends_in(theirs, name) for name in names)

    def _is_in_chosen_block(self, theirs: str) -> bool:
        if not self.blocks:
            return True
        place = layer_in_block(theirs, self.model)
        if place is None or place.block not in self.blocks:
            return False
        where = f"{self.where}: layers_pattern"
        return not self.block_lists or any(
            matches(rf"(?:.*\.)?(?:{name})\.\d+\..*", theirs, where) for name in self.block_lists
        )


def _ends_in(theirs: str, name: str) -> bool:
    return f".{theirs}".endswith(f".{name}")
