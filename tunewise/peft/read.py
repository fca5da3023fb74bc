"""Reading of PEFT's adapters for a model of ours; what is not understood is refused."""

from collections.abc import Mapping, Sequence
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
from tunewise.models.weights import LABEL_HEAD, read_tensors
from tunewise.peft.config import PeftType, alpha_of, count_virtual_tokens, read_adapter_config
from tunewise.peft.joint import LowRankUpdate, split_update
from tunewise.peft.names import (
    LAYERS_NAME_PREFIX,
    LORA_A,
    LORA_B,
    MAGNITUDE,
    OUTPUT_LAYER_COPY,
    PROMPT,
    VIRTUAL_TOKENS_NAME_PREFIX,
    WEIGHTS_FILE,
    layers_of_transformers,
)

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
    contents = _read(folder, "LORA", LAYERS_NAME_PREFIX)
    label_layer = contents.take_label_layer(model)
    contents.take_output_layer_copy(model)
    updates: dict[str, LowRankUpdate] = {}
    for theirs, ours in layers_of_transformers(model).items():
        weights = [model.dense(f"{name}.weight") for name in ours]
        joint = contents.take_update(theirs, weights)
        if joint is None:
            continue
        parts = split_update(joint, [len(weight) for weight in weights])
        for name, weight, update in zip(ours, weights, parts, strict=True):
            if len(update.a):
                updates[name] = update
            elif not _magnitude_is_untrained(update, weight):
                raise ModelError(
                    f"{folder}: {MAGNITUDE!r} of {theirs!r} is trained where B is zero, which "
                    "is not supported"
                )
    contents.refuse_rest()
    return LoRAFolder(updates, label_layer)


def read_prompt(folder: Path, model: LanguageModel) -> PromptFolder:
    """Return the soft prompt in a folder.

    Raises:
        ModelError: if the folder is not a soft prompt, or not one of this model.
    """
    contents = _read(folder, "PROMPT_TUNING", VIRTUAL_TOKENS_NAME_PREFIX)
    label_layer = contents.take_label_layer(model)
    prompt = contents.tensors.pop(PROMPT, torch.empty(0))
    contents.refuse_rest()
    needed = [count_virtual_tokens(folder), model.config.model_dim]
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
    """An adapter's configuration, and its tensors in fp32 until they are taken."""

    folder: Path
    config: Mapping[str, Any]
    tensors: dict[str, Tensor]
    """The tensors by their names without the name prefix."""

    def take_update(self, theirs: str, weights: Sequence[Tensor]) -> LowRankUpdate | None:
        """Return the update of a layer of transformers; None if it has none.

        Args:
            weights: the weights of our layers in it, each (out, in).
        """
        names = f"{theirs}.{LORA_A}", f"{theirs}.{LORA_B}"
        if not self.tensors.keys() >= set(names):
            return None
        a, b = (self.tensors.pop(name) for name in names)  # (R, in), (out, R)
        in_dim, out_dim = weights[0].shape[1], sum(len(weight) for weight in weights)
        if (a.shape[1], *b.shape) != (in_dim, out_dim, len(a)):
            raise ModelError(
                f"{self.folder}: the update of {theirs!r} has shapes {list(a.shape)} and "
                f"{list(b.shape)}; the model's layer is {out_dim} by {in_dim}"
            )
        magnitude = self.tensors.pop(f"{theirs}.{MAGNITUDE}", None)  # (out,)
        if magnitude is not None and magnitude.shape != (out_dim,):
            shape = list(magnitude.shape)
            raise ModelError(f"{self.folder}: {MAGNITUDE!r} of {theirs!r} has shape {shape}")
        root = sqrt if self.config.get("use_rslora") else float
        scale = alpha_of(theirs, self.config, self.folder) / root(len(a))
        return LowRankUpdate(a, b, scale, magnitude)

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

    def take_output_layer_copy(self, model: LanguageModel) -> None:
        """Raise ModelError unless a copy of the output layer, if there is one, is the model's."""
        copy = self.tensors.pop(OUTPUT_LAYER_COPY, None)
        head = model.dense("head.weight")
        if copy is None or head.is_meta:
            return
        is_same = copy.shape == head.shape and torch.allclose(
            copy,
            head.float(),
            rtol=1e-2,  # the copy may be in half precision
            atol=1e-6,
        )
        if not is_same:
            raise ModelError(
                f"{self.folder}: {OUTPUT_LAYER_COPY!r} is not the output layer of this model"
            )

    def refuse_rest(self) -> None:
        """Raise ModelError if a tensor has not been taken."""
        if self.tensors:
            more = f" ({len(self.tensors)} in all)" if len(self.tensors) > 1 else ""
            raise ModelError(f"{self.folder}: tensor {min(self.tensors)!r} cannot be used{more}")


def _read(folder: Path, peft_type: PeftType, name_prefix: str) -> _Contents:
    config = read_adapter_config(folder, peft_type)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {WEIGHTS_FILE}; a pickle (.bin) can run any code when it is opened: "
            "write the adapter again with a PEFT that saves safetensors"
        )
    tensors = {
        name.removeprefix(name_prefix): tensor.float()
        for name, tensor in read_tensors(path).items()
    }
    return _Contents(folder, config, tensors)


def _magnitude_is_untrained(update: LowRankUpdate, weight: Tensor) -> bool:
    """Return whether DoRA's lengths are those of the frozen weight; True if either is missing."""
    if update.magnitude is None or weight.is_meta:
        return True
    return torch.allclose(update.magnitude, row_lengths(weight), rtol=1e-5)
