"""The model of a run: how it is made, saved and loaded again."""

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from tunewise.config import RunConfig, make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_dtype
from tunewise.errors import ModelError
from tunewise.files import naming_the_file, share_files
from tunewise.json_text import to_json
from tunewise.models import LanguageModel
from tunewise.models.folder import find_folder, load_model, save_model
from tunewise.models.hub import fetch_weights
from tunewise.models.label_layer import load_classifier
from tunewise.models.tensors import fingerprint
from tunewise.models.weights import opened, read_tensors
from tunewise.runs.folder import (
    ADAPTER_FILE,
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    MODEL_FOLDER,
    read_result,
    unfinished,
)
from tunewise.runs.prepare import layout_of
from tunewise.tasks import Classification, Task

logger = logging.getLogger(__name__)


class TrainedRun(NamedTuple):
    """A finished run, loaded again."""

    config: RunConfig
    model: LanguageModel
    tokenizer: Tokenizer


def adapted_model(
    config: RunConfig, source: Path, tokenizer: Tokenizer, is_trained: bool = False
) -> LanguageModel:
    """Return the model of a configuration on the CPU, adapted by its method, ready to be trained.

    Args:
        source: the folder of the base model.
        is_trained: whether trained weights will be read into it, a label layer with them; then one
            in the folder is not looked at.

    Raises:
        ModelError: if the weights cannot be fetched or read, or do not go with the tokenizer.
        ConfigError: if the method needs what the model does not have.
    """
    generator = torch.Generator().manual_seed(config.seed)
    fetch_weights(config.model, source)
    labels = config.task.label_names
    if labels is None:
        model = load_model(source)
    elif is_trained:
        model = load_model(source, head=False)
        model.use_label_head(len(labels), generator)
    else:
        model = load_classifier(source, labels_of(config.task), generator)
    _check_vocabulary(tokenizer, model, source)
    config.method.adapt(model, generator, tokenizer)
    return model


def labels_of(task: Task) -> dict[str, str]:
    """Return each label of a task as it is in the rows, and its name."""
    known = task.labels if isinstance(task, Classification) else None
    return known or {name: name for name in task.label_names or ()}


def save_trained(
    model: LanguageModel, config: RunConfig, folder: Path, tokenizer: Tokenizer
) -> None:
    """Write the trained weights: the whole model if all are trained, else an adapter.

    Raises:
        ConfigError: if it cannot be written.
    """
    with naming_the_file(folder):
        if config.method.trains_everything:
            save_whole(model, config, folder / MODEL_FOLDER, tokenizer)
            return
        path = folder / ADAPTER_FILE
        path.parent.mkdir(exist_ok=True)
        tensors = {name: p.detach().cpu().contiguous() for name, p in model.trainable()}
        # With the configuration in it, the file can be understood without the folder. All is in one
        # value, since the library writes several in any order.
        about = {"config": config.model_dump(mode="json"), "base": _base_of(model)}
        save_file(tensors, path, metadata={"tunewise": to_json(about)})
        share_files(path.parent)


def save_whole(model: LanguageModel, config: RunConfig, folder: Path, tokenizer: Tokenizer) -> None:
    """Write a whole model and its tokenizer, for transformers, and as a model for runs.

    Its tokenizer cuts a text where the run does: a classifier of transformers has to be told.
    """
    labels = config.task.label_names or ()
    save_model(model, folder, tokenizer.end_of_text, labels, tokenizer.token_ids)
    tokenizer.save(folder, longest_text(model, config, tokenizer))


def longest_text(model: LanguageModel, config: RunConfig, tokenizer: Tokenizer) -> int:
    """Return the most tokens of a text: a classifier reads as many as in its run."""
    if config.task.label_names is not None:
        return layout_of(config, model.config).text_length
    longest = model.config.context_length
    return min(longest, tokenizer.max_length or longest)


def load_trained(folder: Path) -> TrainedRun:
    """Return the configuration, model and tokenizer of a finished run, on the CPU, ready to answer.

    Raises:
        TunewiseError: as `read_trained`.
    """
    trained = read_trained(folder)
    dtype = choose_dtype(trained.config.train.precision, torch.device("cpu"))
    trained.model.set_precision(dtype)
    return trained


def read_finished(folder: Path) -> RunConfig:
    """Return the configuration of a run that has finished.

    Raises:
        ConfigError: if the folder is not that of a run, or the run has not finished.
        ModelError: if its weights were not kept.
    """
    config = make_config(folder / CONFIG_FILE)
    weights = folder / (MODEL_FOLDER if config.method.trains_everything else ADAPTER_FILE)
    # A run that is being lengthened still has the weights of its former length.
    goes_on = (folder / CHECKPOINT_FOLDER).exists() or not weights.exists()
    if goes_on and read_result(folder) is None:
        raise unfinished(folder)
    if not weights.exists():
        raise ModelError(
            f"{weights}: no such file or folder; a candidate of a study keeps its weights only "
            "with keep_candidates: true in the study"
        )
    return config


def read_trained(folder: Path) -> TrainedRun:
    """Return the configuration, model and tokenizer of a finished run, with weights as stored.

    Raises:
        ConfigError: if the folder is not that of a run, or the run has not finished.
        ModelError: if its weights cannot be read.
    """
    config = read_finished(folder)
    if config.method.trains_everything:
        tokenizer = Tokenizer.load(folder / MODEL_FOLDER)
        labels = config.task.label_names
        model = load_model(folder / MODEL_FOLDER, None if labels is None else len(labels))
        _check_vocabulary(tokenizer, model, folder / MODEL_FOLDER)
        config.method.adapt(model, torch.Generator())
    else:
        source = _find_base(config, folder)
        tokenizer = Tokenizer.load(source)
        model = adapted_model(config, source, tokenizer, is_trained=True)
        copy_tensors(read_tensors(folder / ADAPTER_FILE), model, folder / ADAPTER_FILE)
        _check_base(model, folder / ADAPTER_FILE)
    return TrainedRun(config, model.eval(), tokenizer)


def _find_base(config: RunConfig, folder: Path) -> Path:
    """Return the folder of a finished run's base model."""
    try:
        return find_folder(config.model)
    except ModelError as error:
        if not Path(config.model).is_absolute():
            raise
        raise ModelError(
            f"{folder}: its base model, {config.model}, is not there any more; put it back, or "
            f"write where it is now as `model` in {folder / CONFIG_FILE}"
        ) from error


def _base_of(model: LanguageModel) -> str:
    """Return a hash of the weights of a model's folder; nothing if they cannot be read by now."""
    try:
        return fingerprint(model, Path(model.source))
    except ModelError:
        return ""


def _check_base(model: LanguageModel, path: Path) -> None:
    """Warn if the weights that an adapter was trained on are not those that it is read into."""
    if not is_base_of(path, model):
        logger.warning(
            "%s: the weights in %s are not those that it was trained on: they have changed since, "
            "and so do the answers",
            path,
            model.source,
        )


def is_base_of(path: Path, model: LanguageModel) -> bool:
    """Return whether an adapter was trained on a model's weights, as far as its file says."""
    trained_on = _trained_on(path)
    return not trained_on or trained_on == _base_of(model)


def _trained_on(path: Path) -> str | None:
    """Return the hash of the weights that an adapter was trained on, if its file has one."""
    with opened(path) as file:
        text = (file.metadata() or {}).get("tunewise", "")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):  # of an unknown hand
        return None
    return about.get("base") if isinstance(about, dict) else None


def _check_vocabulary(tokenizer: Tokenizer, model: LanguageModel, source: Path) -> None:
    """Raise ModelError if the tokenizer has ids that the model does not have."""
    if tokenizer.size > model.config.vocabulary_size:
        last = tokenizer.size - 1
        raise ModelError(
            f"{source}: the tokenizer has ids up to {last} ({tokenizer.decode([last])!r}); the "
            f"model's vocabulary ends at {model.config.vocabulary_size - 1}: resize its embedding "
            "(in transformers: resize_token_embeddings), or take the token out of the tokenizer"
        )


@torch.no_grad()
def copy_tensors(
    tensors: Mapping[str, Tensor], model: LanguageModel, path: Path, fresh: Collection[str] = ()
) -> None:
    """Put trained weights into a model that a method has adapted.

    Args:
        path: the file that they are from, for errors.
        fresh: names of parameters that keep the values they have.

    Raises:
        ModelError: if they are not the weights that the model trains.
    """
    trained = {name: p for name, p in model.trainable() if name not in fresh}
    if unlike := sorted(tensors.keys() ^ trained.keys()):
        raise ModelError(f"{path}: tensor {unlike[0]!r} is missing or unexpected")
    for name, parameter in trained.items():
        if tensors[name].shape != parameter.shape:
            shape, expected = list(tensors[name].shape), list(parameter.shape)
            raise ModelError(f"{path}: tensor {name!r} has shape {shape}; {expected} is needed")
        # A copy, since a product's last bits may depend on where in memory a row begins.
        parameter.data = tensors[name].clone()
