"""How many parameters a set-up has, from shapes alone."""

from collections.abc import Sequence

import torch

from tunewise.config import RunConfig
from tunewise.models import ModelConfig
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import build_model, find_folder, read_config
from tunewise.store import Parameters


def count_parameters(config: RunConfig, labels: Sequence[str] | None) -> Parameters:
    """Return the counts of a model after its method has adapted it.

    Args:
        labels: those of a classifier; None for a language model.
    """
    model = build_model(_shape(config.model))
    if labels is not None:
        model.use_label_head(len(labels))
    config.method.adapt(model, torch.Generator())
    total, trainable = model.count_parameters()
    return Parameters(total=total, trainable=trainable, percent=100 * trainable / total)


def _shape(name: str) -> ModelConfig:
    """Return a model's shape; a known one needs no file."""
    return KNOWN_MODELS[name].config if name in KNOWN_MODELS else read_config(find_folder(name))
