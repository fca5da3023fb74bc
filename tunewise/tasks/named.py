"""Named tasks: one YAML file each in the folder `catalog/`."""

from pathlib import Path
from typing import Any

from tunewise.errors import ConfigError, nearest
from tunewise.yaml import load_yaml

CATALOG = Path(__file__).parent / "catalog"


def task_names() -> list[str]:
    """Return the names of the catalogue."""
    return sorted(path.stem for path in CATALOG.glob("*.yaml"))


def named_task(name: str) -> dict[str, Any]:
    """Return the settings of a named task.

    Raises:
        ConfigError: if no task has this name.
    """
    path = CATALOG / f"{name}.yaml"
    if name not in task_names():
        raise ConfigError(f"no task {name!r}; {nearest(name, task_names())}")
    return {"name": name, **load_yaml(path.read_text("utf-8"))}
