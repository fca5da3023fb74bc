"""Parameter counts of a set-up, from shapes alone."""

import torch

from tunewise.config import RunConfig
from tunewise.errors import ConfigError
from tunewise.models.folder import build_model, shape_of
from tunewise.runs.result import Parameters
from tunewise.tasks import Task


def count_parameters(config: RunConfig, task: Task | None) -> Parameters:
    """Return the counts of a model after its method has adapted it; no weights are read.

    Args:
        task: decides the label layer of a classifier; with None the model is a language model.

    Raises:
        ConfigError: if the labels are not in the settings: they would have to be read from rows.
    """
    model = build_model(shape_of(config.model))
    if task is not None and task.answer_kind.uses_label_layer:
        if task.label_names is None:
            raise ConfigError("task.labels: needed to count parameters, since no rows are read")
        model.use_label_head(len(task.label_names))
    config.method.adapt(model, torch.Generator())
    total, trainable = model.count_parameters()
    return Parameters(total=total, trainable=trainable, percent=100 * trainable / total)
