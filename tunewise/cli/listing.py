"""What is known by name, as rows of plain values."""

from pathlib import Path
from typing import Any

from tunewise.config import make_config
from tunewise.data.rows import SPLITS
from tunewise.errors import DataError
from tunewise.methods import METHODS
from tunewise.metrics import METRICS
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import build_model
from tunewise.tasks import TASKS, Task
from tunewise.tasks.named import task_names
from tunewise.tasks.task import POCKET_REVIEWS

Rows = list[dict[str, Any]]


def models() -> Rows:
    """Return the known models with their shapes."""
    return [
        {
            "model": name,
            "parameters": build_model(known.config).count_parameters()[0],
            "layers": known.config.num_layers,
            "width": known.config.model_dim,
            "heads": known.config.num_heads,
            "context": known.config.context_length,
            "from": known.home,
        }
        for name, known in KNOWN_MODELS.items()
    ]


def tasks(data: Path | None = None) -> Rows:
    """Return the catalogue, then the kinds of task that take a path.

    Args:
        data: the data folder; the rows that are there are counted.
    """
    named = [make_config(fields={"task": name}).task for name in task_names()]
    rows = [
        {
            "task": task.name,
            "kind": task.kind,
            "columns": ", ".join(task.columns),
            "train / validation / test": _sizes(task, data),
            "metrics": ", ".join(task.metrics),
            "about": task.description,
        }
        for task in named
    ]
    return rows + [
        {
            "task": f"{{kind: {kind}, path: ...}}",
            "kind": kind,
            "columns": "yours",
            "train / validation / test": "yours",
            "metrics": ", ".join(task.metrics),
            "about": (task.__doc__ or "").split("\n")[0],
        }
        for kind, task in TASKS.items()
    ]


def _sizes(task: Task, data: Path | None) -> str:
    """Return how many rows each split has, or where they could be had from."""
    if task.name == POCKET_REVIEWS or (data is not None and (data / task.name).is_dir()):
        try:
            return " / ".join(f"{len(task.rows(split, data)):,}" for split in SPLITS)
        except DataError as error:  # the other tasks are still worth listing
            return str(error)
    return "not in the data folder" if task.hub is None else f"on the hub: {task.hub.path}"


def methods() -> Rows:
    """Return the methods with their settings and defaults."""
    rows = []
    for kind, method in METHODS.items():
        settings = method().model_dump(exclude={"kind"})  # type: ignore[call-arg]  # each has its own kind
        rows.append(
            {
                "method": kind,
                "about": (method.__doc__ or "").split("\n")[0],
                "learning rate": f"{method.default_learning_rate:g}",
                "settings": ", ".join(f"{name}={value}" for name, value in settings.items()),
            }
        )
    return rows


def metrics() -> Rows:
    """Return the metrics."""
    return [
        {
            "metric": metric.name,
            "better": "higher" if metric.higher_is_better else "lower",
            "about": metric.description,
        }
        for metric in METRICS.values()
    ]
