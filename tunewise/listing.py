"""What is known by name, as rows of plain values."""

from typing import Any

from tunewise.methods import METHODS
from tunewise.metrics import METRICS
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import build_model
from tunewise.tasks import TASKS
from tunewise.tasks.named import named_task, task_names

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


def tasks() -> Rows:
    """Return the catalogue, then the kinds of task that take a path."""
    rows = []
    for name in task_names():
        values = named_task(name)
        rows.append(
            {
                "task": name,
                "kind": values["kind"],
                "metrics": ", ".join(TASKS[values["kind"]].metrics),
                "about": values["description"],
            }
        )
    return rows + [
        {
            "task": f"{{kind: {kind}, path: ...}}",
            "kind": kind,
            "metrics": ", ".join(task.metrics),
            "about": (task.__doc__ or "").split("\n")[0],
        }
        for kind, task in TASKS.items()
    ]


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
