"""The rows of `tunewise list`: known models, tasks, methods, metrics and objectives.

Their field names are the keys of `tunewise list --json`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from tunewise.cli.run_list import ListedRun
from tunewise.config import make_config
from tunewise.data.rows import SPLITS
from tunewise.errors import DataError
from tunewise.methods import METHODS
from tunewise.metrics import METRICS
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import build_model
from tunewise.settings import Settings
from tunewise.tasks import TASKS, Task
from tunewise.tasks.named import task_names
from tunewise.tasks.task import POCKET_REVIEWS
from tunewise.training.objectives import OBJECTIVES

HEADINGS = {
    "source": "from",
    "rows": "train / validation / test",
    "learning_rate": "learning rate",
}
"""Headings of the printed table, where they differ from the name of the field."""


@dataclass(frozen=True)
class ListedModel:
    """A model that is known by name, and its shape."""

    model: str
    parameters: int
    layers: int
    width: int
    heads: int
    context: int
    source: str
    """The source of its weights."""


@dataclass(frozen=True)
class ListedTask:
    """A named task, or a kind of task that takes a path."""

    task: str
    kind: str
    columns: str
    rows: str
    """Number of rows of each split, or where they can be found."""
    metrics: str
    about: str


@dataclass(frozen=True)
class ListedMethod:
    """A method, its settings and their defaults."""

    method: str
    about: str
    learning_rate: str
    settings: str


@dataclass(frozen=True)
class ListedMetric:
    """A metric, and whether higher or lower values are better."""

    metric: str
    better: str
    about: str


@dataclass(frozen=True)
class ListedObjective:
    """An objective with its settings and their defaults."""

    objective: str
    about: str
    settings: str


Listed = ListedModel | ListedTask | ListedMethod | ListedMetric | ListedObjective | ListedRun


def with_headings(listed: Listed) -> dict[str, object]:
    """Return the values by the headings of the printed table."""
    return {HEADINGS.get(name, name): value for name, value in asdict(listed).items()}


def as_json(listed: Listed) -> dict[str, object]:
    """Return the values by their field names, and by the headings, which were the keys before."""
    return asdict(listed) | with_headings(listed)


def models() -> list[ListedModel]:
    """Return the known models with their shapes."""
    return [
        ListedModel(
            model=name,
            parameters=build_model(known.config).count_parameters()[0],
            layers=known.config.num_layers,
            width=known.config.model_dim,
            heads=known.config.num_heads,
            context=known.config.context_length,
            source=known.home,
        )
        for name, known in KNOWN_MODELS.items()
    ]


def tasks(data: Path | None = None) -> list[ListedTask]:
    """Return the catalogue, then the kinds of task that take a path.

    Args:
        data: the data folder, whose rows are counted.
    """
    catalogue = [make_config(fields={"task": name}).task for name in task_names()]
    named = [
        ListedTask(
            task=task.name,
            kind=task.kind,
            columns=", ".join(task.columns),
            rows=_rows(task, data),
            metrics=", ".join(task.metrics),
            about=task.description,
        )
        for task in catalogue
    ]
    kinds = [
        ListedTask(
            task=f"{{kind: {kind}, path: ...}}",
            kind=kind,
            columns="yours",
            rows="yours",
            metrics=", ".join(task.model_fields["metrics"].default),
            about=_first_line(task),
        )
        for kind, task in TASKS.items()
    ]
    return named + kinds


def _rows(task: Task, data: Path | None) -> str:
    """Return how many rows each split has, or where they can be found."""
    if task.name == POCKET_REVIEWS or (data is not None and (data / task.name).is_dir()):
        try:
            return " / ".join(f"{len(task.rows(split, data)):,}" for split in SPLITS)
        except DataError as error:  # the other tasks are still worth listing
            return str(error)
    return "not in the data folder" if task.hub is None else f"on the hub: {task.hub.path}"


def methods() -> list[ListedMethod]:
    """Return the methods with their settings and defaults."""
    listed = []
    for kind, method in METHODS.items():
        listed.append(
            ListedMethod(
                method=kind,
                about=_first_line(method),
                learning_rate=f"{method.default_learning_rate:g}",
                settings=_settings(method),
            )
        )
    return listed


def metrics() -> list[ListedMetric]:
    """Return the metrics."""
    return [
        ListedMetric(
            metric=metric.name,
            better="higher" if metric.higher_is_better else "lower",
            about=metric.description,
        )
        for metric in METRICS.values()
    ]


def objectives() -> list[ListedObjective]:
    """Return the objectives with their settings and defaults."""
    return [
        ListedObjective(kind, _first_line(objective), _settings(objective))
        for kind, objective in OBJECTIVES.items()
    ]


def _settings(kind: type[Settings]) -> str:
    """Return the settings of a kind, with their defaults."""
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    return ", ".join(f"{name}={field.default}" for name, field in fields.items() if name != "kind")


def _first_line(kind: type) -> str:
    """Return the first line of a class's docstring."""
    return (kind.__doc__ or "").split("\n")[0]
