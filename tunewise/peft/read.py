"""Reading of PEFT's adapters for a model of ours.

Whatever the configuration asks for must be in the file, and nothing else: else it is refused.
"""

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor

from tunewise.errors import ModelError
from tunewise.models import LanguageModel
from tunewise.models.layers import row_lengths
from tunewise.models.weights import LABEL_HEAD, LANGUAGE_HEAD, read_tensors
from tunewise.peft.config import (
    MERGE,
    PeftType,
    count_virtual_tokens,
    made_for,
    names_in,
    read_adapter_config,
    value_of,
)
from tunewise.peft.joint import LowRankUpdate, split_update
from tunewise.peft.names import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_NAME,
    LABEL_LAYER,
    LAYERS_NAME_PREFIX,
    LORA_A,
    LORA_B,
    MAGNITUDE,
    OTHER_LABEL_LAYER,
    PROMPT,
    VIRTUAL_TOKENS_NAME_PREFIX,
    WEIGHTS_FILE,
    has_weights,
    layers_of_transformers,
    weights_of_transformers,
)
from tunewise.peft.targets import targeted_layers

logger = logging.getLogger(__name__)

Folder = Annotated[Path, AfterValidator(lambda path: Path(expanduser(path)).absolute())]
"""A folder that PEFT's save_pretrained wrote, as a setting."""


@dataclass(frozen=True)
class LoRAFolder:
    """The content of a folder of LoRA."""

    updates: dict[str, LowRankUpdate]
    """The updates by our names of the layers."""
    label_layer: Tensor | None
    """The weight of the label layer, (labels, D) in fp32."""


@dataclass(frozen=True)
class PromptFolder:
    """The content of a folder of a soft prompt."""

    prompt: Tensor
    """(P, D), in fp32."""
    label_layer: Tensor | None
    """The weight of the label layer, (labels, D) in fp32."""


def read_lora(folder: Path, model: LanguageModel) -> LoRAFolder:
    """Return the updates in a folder, one for each of our layers (see `split_update`).

    Raises:
        ModelError: if the folder is not a LoRA that is supported here, or not one of this model.
    """
    contents = _read(folder, "LORA", LAYERS_NAME_PREFIX, model)
    label_layer = contents.take_label_layer(model)
    contents.take_copies(model)
    targeted = targeted_layers(contents.config, model, folder / ADAPTER_CONFIG_FILE)
    parts = (LORA_A, LORA_B, *([MAGNITUDE] if contents.config.get("use_dora") else []))
    wanted = {theirs: [f"{theirs}.{part}" for part in parts] for theirs in targeted}
    contents.check(name for names in wanted.values() for name in names)
    ours_in = layers_of_transformers(model)
    updates: dict[str, LowRankUpdate] = {}
    for theirs, names in wanted.items():
        ours = ours_in[theirs]
        weights = [model.dense(f"{name}.weight") for name in ours]
        joint = contents.update(theirs, names, weights)
        for name, weight, update in zip(
            ours, weights, split_update(joint, [len(weight) for weight in weights]), strict=True
        ):
            if len(update.a):
                updates[name] = update
            elif not _magnitude_is_untrained(update, weight):
                raise ModelError(
                    f"{folder}: {MAGNITUDE!r} of {theirs!r} is trained where B is zero, which "
                    f"is not supported; {MERGE}"
                )
    return LoRAFolder(updates, label_layer)


def read_prompt(folder: Path, model: LanguageModel) -> PromptFolder:
    """Return the soft prompt in a folder.

    Raises:
        ModelError: if the folder is not a soft prompt, or not one of this model.
    """
    contents = _read(folder, "PROMPT_TUNING", VIRTUAL_TOKENS_NAME_PREFIX, model)
    label_layer = contents.take_label_layer(model)
    contents.take_copies(model)
    contents.check([PROMPT])
    shape = model.config
    for field, ours in {
        "token_dim": shape.model_dim,
        "num_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
    }.items():
        if (theirs := contents.config.get(field)) not in (None, ours):
            raise ModelError(
                f"{folder / ADAPTER_CONFIG_FILE}: {field} is {theirs!r}; this model has {ours}"
                f"{made_for(contents.config)}"
            )
    prompt = contents.tensors[PROMPT]
    needed = [count_virtual_tokens(folder), shape.model_dim]
    if list(prompt.shape) != needed:
        raise ModelError(f"{folder}: {PROMPT!r} has shape {list(prompt.shape)}; {needed} is needed")
    return PromptFolder(prompt, label_layer)


def set_label_layer(model: LanguageModel, weight: Tensor | None) -> None:
    """Give a model the label layer of a folder; nothing if there is none, or on the meta device."""
    head = model.get_parameter("head.weight")
    if weight is not None and not head.is_meta:
        head.data = weight


@dataclass(frozen=True)
class _Contents:
    """An adapter's configuration, and its tensors in fp32; some are taken out as they are used."""

    folder: Path
    config: Mapping[str, Any]
    tensors: dict[str, Tensor]
    """The tensors by their names without the name prefix."""

    def take_label_layer(self, model: LanguageModel) -> Tensor | None:
        """Return the weight of the label layer, once it fits the model; None if there is none."""
        weight = self.tensors.pop(LABEL_HEAD, None)
        if weight is None:
            return None
        if model.num_labels is None:
            raise ModelError(
                f"{self.folder}: has a layer over {len(weight)} labels; the task has none"
            )
        needed = model.dense("head.weight").shape
        if weight.shape != needed:
            raise ModelError(
                f"{self.folder}: the label layer has shape {list(weight.shape)}; "
                f"the task and the model ask for {list(needed)}"
            )
        return weight

    def take_copies(self, model: LanguageModel) -> None:
        """Take out copies of the model's own weights, which PEFT saves beside some adapters.

        Raises:
            ModelError: if one is not equal to the model's.
        """
        copies = {}
        for theirs, stored in weights_of_transformers(model).items():
            layer, _, attribute = theirs.rpartition(".")
            for name in (theirs, f"{layer}.base_layer.{attribute}"):
                if name in self.tensors:
                    copies[name] = stored
        for name, stored in copies.items():
            copy = self.tensors.pop(name)
            own = torch.cat([model.dense(ours).detach() for ours in stored.ours])
            own = own.T if stored.transposed else own
            if copy.shape != own.shape:
                raise ModelError(
                    f"{self.folder}: {name!r} has shape {list(copy.shape)}, and this model's "
                    f"{list(own.shape)}{made_for(self.config)}; if it was enlarged, {MERGE}"
                )
            if not own.is_meta and not _are_equal_when_rounded(copy, own):
                raise ModelError(
                    f"{self.folder}: {name!r} is not that of this model: it was trained, which is "
                    f"not supported, or is another model's{made_for(self.config)}; {MERGE}"
                )
        if copies and has_weights(model):
            logger.info(
                "%s: %s equal this model's and are left alone", self.folder, ", ".join(copies)
            )

    def check(self, wanted: Iterable[str]) -> None:
        """Raise ModelError unless the file holds the wanted tensors, and no others."""
        wanted, problems = list(wanted), []
        if missing := [name for name in wanted if name not in self.tensors]:
            problems.append(
                f"{ADAPTER_CONFIG_FILE} asks for {_some(missing)}, which {WEIGHTS_FILE} lacks"
            )
        if left := sorted(self.tensors.keys() - set(wanted)):
            problems.append(f"tensor {_some(left)} cannot be used")
        if problems:
            raise ModelError(f"{self.folder}: {'; '.join(problems)}{made_for(self.config)}")

    def update(self, theirs: str, names: Sequence[str], weights: Sequence[Tensor]) -> LowRankUpdate:
        """Return the update of a layer of transformers.

        Args:
            names: the names of its tensors: A, B, and the magnitude of DoRA's.
            weights: the weights of our layers in it, each (out, in).
        """
        a, b, *rest = (self.tensors[name] for name in names)  # (R, in), (out, R), (out,)
        where = self.folder / ADAPTER_CONFIG_FILE
        rank = value_of(theirs, self.config, "r", where)
        in_dim, out_dim = weights[0].shape[1], sum(len(weight) for weight in weights)
        if [list(a.shape), list(b.shape)] != [[rank, in_dim], [out_dim, rank]]:
            raise ModelError(
                f"{self.folder}: the update of {theirs!r} has shapes {list(a.shape)} and "
                f"{list(b.shape)}; the model's layer is {out_dim} by {in_dim}, and the rank in "
                f"{ADAPTER_CONFIG_FILE} {rank:g}{made_for(self.config)}"
            )
        magnitude = rest[0] if rest else None
        if magnitude is not None and magnitude.shape != (out_dim,):
            shape = list(magnitude.shape)
            raise ModelError(f"{self.folder}: {MAGNITUDE!r} of {theirs!r} has shape {shape}")
        root = sqrt if self.config.get("use_rslora") else float
        scale = value_of(theirs, self.config, "lora_alpha", where) / root(rank)
        return LowRankUpdate(a, b, scale, magnitude)


def _read(folder: Path, peft_type: PeftType, name_prefix: str, model: LanguageModel) -> _Contents:
    config = read_adapter_config(folder, peft_type)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {WEIGHTS_FILE}; a pickle (.bin) can run any code when it is opened: "
            "write the adapter again with a PEFT that saves safetensors"
        )
    tensors: dict[str, Tensor] = {}
    for whole_name, tensor in read_tensors(path).items():
        name = _plain(whole_name.removeprefix(name_prefix))
        if name in tensors:
            raise ModelError(f"{path}: {name!r} is there twice, under two names")
        tensors[name] = tensor.float()
    _check_modules_to_save(config, tensors, model, folder)
    return _Contents(folder, config, tensors)


def _check_modules_to_save(
    config: Mapping[str, Any], tensors: Collection[str], model: LanguageModel, folder: Path
) -> None:
    """Raise ModelError if a module is to be saved, and the file does not have all of it."""
    saved = set(names_in(config, "modules_to_save", folder / ADAPTER_CONFIG_FILE))
    if config.get("task_type") == "SEQ_CLS":
        saved.add(LABEL_LAYER)
    heads = {LABEL_HEAD, LANGUAGE_HEAD} if model.num_labels is None else {LABEL_HEAD}
    weights = (weights_of_transformers(model).keys() - {LANGUAGE_HEAD}) | heads
    asked = {name: [weight for weight in weights if _is_inside(weight, name)] for name in saved}
    missing = {weight for inside in asked.values() for weight in inside if weight not in tensors}
    if missing:
        raise ModelError(
            f"{folder}: modules_to_save asks for {_some(sorted(missing))}, which {WEIGHTS_FILE} "
            f"lacks{made_for(config)}"
        )
    unknown = {name for name, inside in asked.items() if not inside} - {OTHER_LABEL_LAYER}
    if unknown and has_weights(model):
        logger.warning(
            "%s: modules_to_save: this model has no %s", folder, ", ".join(sorted(unknown))
        )


def _is_inside(tensor: str, module: str) -> bool:
    return f".{module}." in f".{tensor}"


def _plain(name: str) -> str:
    """Return a tensor's name as PEFT writes it, if it keeps the name under which PEFT loads it."""
    name = name.replace(f"{MAGNITUDE}.{ADAPTER_NAME}.weight", MAGNITUDE)
    return re.sub(rf"(lora_[AB])\.{ADAPTER_NAME}\.weight$", r"\1.weight", name)


def _some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many there are."""
    return f"{names[0]!r}" + (f" ({len(names)} in all)" if len(names) > 1 else "")


def _are_equal_when_rounded(copy: Tensor, own: Tensor) -> bool:
    """Return whether a copy was made of a weight, whose precision was perhaps lowered before.

    No tolerance is given: a weight that was trained for few steps has moved very little.
    """
    precisions = (torch.float32, torch.bfloat16, torch.float16)
    return any(torch.equal(copy, own.to(precision).float()) for precision in precisions)


def _magnitude_is_untrained(update: LowRankUpdate, weight: Tensor) -> bool:
    """Return whether DoRA's lengths are those of the frozen weight; True if either is missing."""
    if update.magnitude is None or weight.is_meta:
        return True
    return torch.allclose(update.magnitude, row_lengths(weight), rtol=1e-5)
