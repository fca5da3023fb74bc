"""The model of a run that begins with the trained weights of another run."""

import logging
from pathlib import Path

from torch import Tensor

from tunewise.config import RunConfig
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, ModelError
from tunewise.methods.method import unwrapped_name
from tunewise.models import LanguageModel
from tunewise.models.label_layer import listed, rows_of
from tunewise.models.tensors import HEAD
from tunewise.models.weights import read_tensors
from tunewise.runs.folder import ADAPTER_FILE, MODEL_FOLDER
from tunewise.runs.model import (
    adapted_model,
    copy_tensors,
    is_base_of,
    labels_of,
    read_finished,
)

logger = logging.getLogger(__name__)

FREE = ("dropout", "loraplus_lr_ratio")
"""Settings of methods that only affect training, so that they may be others than in that run."""


def beginning_model(config: RunConfig, source: Path, tokenizer: Tokenizer) -> LanguageModel:
    """Return the adapted model of a run, with the weights of the run that it begins from, if any.

    Args:
        source: the folder of the base model.

    Raises:
        ConfigError: if that run has not finished, or has another method.
        ModelError: if its weights cannot be read, or go with another base model.
    """
    if config.from_ is None:
        return adapted_model(config, source, tokenizer)
    there = read_finished(config.from_)
    _refuse_another_method(config, there, config.from_)
    logger.info("the weights of %s are what training begins with", config.from_)
    if config.method.trains_everything:
        if Path(config.model).name != Path(there.model).name:
            raise ModelError(
                f"--from {config.from_}: it trained every weight of {there.model}, and nothing of "
                f"{config.model} would be used; leave --model out"
            )
        return adapted_model(config, config.from_ / MODEL_FOLDER, tokenizer)
    model = adapted_model(config, source, tokenizer)
    path = config.from_ / ADAPTER_FILE
    if not is_base_of(path, model):
        raise ModelError(
            f"--from {config.from_}: its weights were trained on another base model than "
            f"{model.source}; give the one it had ({there.model}) with --model"
        )
    stored = _with_our_labels(read_tensors(path), config, there)
    is_fresh = not any(map(_is_of_head, stored))
    fresh = [name for name, _ in model.trainable() if is_fresh and _is_of_head(name)]
    copy_tensors(stored, model, path, fresh)
    return model


def _refuse_another_method(config: RunConfig, there: RunConfig, run: Path) -> None:
    """Raise ConfigError if the weights of a run are not those that this method trains."""
    ours, theirs = config.method, there.method
    if ours.kind != theirs.kind:
        difference = f"method {theirs.kind}, and this has {ours.kind}"
    else:
        fields = (name for name in type(ours).model_fields if name not in FREE)
        name = next((n for n in fields if getattr(ours, n) != getattr(theirs, n)), None)
        if name is None:
            return
        difference = f"method.{name} {getattr(theirs, name)}, and this has {getattr(ours, name)}"
    if theirs.trains_everything:
        instead = f"; train on what it has become: --model {run / MODEL_FOLDER}"
    elif theirs.why_not_merged:
        instead = f"; {theirs.why_not_merged}, so only the same method can go on"
    else:
        instead = (
            f"; for another method, merge its weights (tunewise export {run} --format hf "
            "--out DIR) and train on that: --model DIR"
        )
    raise ConfigError(f"--from {run}: was trained with {difference}{instead}")


def _with_our_labels(
    stored: dict[str, Tensor], config: RunConfig, there: RunConfig
) -> dict[str, Tensor]:
    """Return trained weights with the label layer in the order of our labels.

    Where the labels are others, or one of the runs has none, the output layer is left out.
    """
    ours, theirs = config.task.label_names, there.task.label_names
    if ours == theirs:
        return stored
    rows = rows_of(theirs, labels_of(config.task)) if ours and theirs else None
    heads = {name for name in stored if unwrapped_name(name) == HEAD}
    if rows is not None:
        return {name: t[rows] if name in heads else t for name, t in stored.items()}
    of_head = set(filter(_is_of_head, stored))
    if of_head:
        shown = f"labels {listed(theirs)}" if theirs else "the vocabulary"
        new = f"over {listed(ours)} begins" if ours else "is that of the base model"
        logger.warning(
            "--from %s: its output layer, over %s, is left out; the one here %s",
            config.from_,
            shown,
            new,
        )
    left = {name: tensor for name, tensor in stored.items() if name not in of_head}
    if not left:
        raise ConfigError(
            f"--from {config.from_}: it trained nothing but an output layer for another task, so "
            "nothing is left to begin with; begin a new run without --from"
        )
    return left


def _is_of_head(name: str) -> bool:
    """Return whether a parameter is of the output layer, or of what a method puts around it."""
    return name.startswith("head.")
