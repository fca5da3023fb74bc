"""Overrides: values of a configuration's fields, grids of them, and names made from them.

A study varies and tunes fields by their dotted paths (`method.rank`). The names of cells,
candidates and run folders are made from the values that were chosen.
"""

import hashlib
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from tunewise.config import RunConfig
from tunewise.json_text import to_json

Overrides = dict[str, Any]
"""Values of a configuration's fields, by their dotted paths."""


def paths_of(axis: str) -> list[str]:
    """Return the dotted paths that an axis sets together: two for `method.rank, method.alpha`."""
    return [path.strip() for path in axis.split(",")]


def grid(axes: Mapping[str, list[Any]]) -> list[Overrides]:
    """Return every choice of one value on each axis; the first axis changes slowest."""
    points: list[Overrides] = []
    for choice in product(*axes.values()):
        point: Overrides = {}
        for axis, value in zip(axes, choice, strict=True):
            paths = paths_of(axis)
            point |= zip(paths, value if len(paths) > 1 else [value], strict=True)
        points.append(point)
    return points


def title_of(overrides: Overrides) -> str:
    """Return a short name for a choice of values: `rank=4, blocks=last-18`."""
    return ", ".join(
        _title_of_field(str(path).rpartition(".")[2], value) for path, value in overrides.items()
    )


def _title_of_field(field: str, value: Any) -> str:
    if isinstance(value, Mapping):
        # {kind: lora, rank: 4} is "lora, rank=4": a kind needs no name.
        others = {key: inner for key, inner in value.items() if key != "kind"}
        return ", ".join(filter(None, [str(value.get("kind", "")), title_of(others)]))
    if field in ("method", "task", "model"):
        return Path(str(value)).name
    if isinstance(value, list):
        value = "+".join(map(str, value))
    return f"{field}={value:g}" if isinstance(value, float) else f"{field}={value}"


def folder_name(name: str, config: RunConfig) -> str:
    """Return the name of a run's folder: its overrides and seed, and a hash of its configuration.

    When a study file is edited, the hash sends the runs whose configuration has changed to new
    folders, and the other runs keep theirs. Defaults are not in the hash, so that a setting that is
    new in a version changes no name.
    """
    readable = re.sub(r"[^\w.=+-]+", "_", name)[:80].strip("_.")
    values = config.deciding.model_dump(mode="json", exclude_defaults=True)
    if "frozen_cache" in values.get("train", {}):  # by its name when folders were first named
        values["train"]["prefix_cache"] = values["train"].pop("frozen_cache")
    values["kinds"] = config.task.kind, config.method.kind
    text = to_json(values, sort_keys=True)
    return f"{readable}_seed={config.seed}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
