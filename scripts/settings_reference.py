"""Write the reference of all settings from the code: docs/settings.md, and tables in docs/methods.

    python scripts/settings_reference.py

Types, defaults and bounds are read from the settings' classes, descriptions from the lines under
their fields. `tests/test_docs.py` fails if the file and the code disagree.
"""

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunewise.config import RunConfig
from tunewise.data.hub import HubData
from tunewise.generation.config import DecodingConfig
from tunewise.methods import METHODS
from tunewise.settings import Settings
from tunewise.tasks import TASKS, Task
from tunewise.training.config import EarlyStopping, TrainConfig
from tunewise.training.objectives import OBJECTIVES, Objective
from tunewise.training.optimizers import OPTIMIZERS, UpdateRule

REFERENCE = Path(__file__).parent.parent / "docs" / "settings.md"
METHOD_PAGES = REFERENCE.parent / "methods"
SETTINGS_HEADING = "**Settings**\n"
"""The heading above the table of settings in the page of a method that has settings."""
SECTIONS = {
    "task": "#task",
    "method": "#method",
    "train": "#train",
    "objective": "#trainobjective",
    "optimizer": "#trainoptimizer",
}
"""The sections of the page for those fields of a run that have fields themselves."""
INNER: dict[str, type[Settings]] = {"task.hub": HubData, "task.decoding": DecodingConfig}
"""Settings inside the settings of a task, by their path."""
TRAIN_GROUPS = {
    "How much is trained": "epochs",
    "Updates": "objective",
    "Evaluation": "evaluate_every",
    "Memory and speed": "tokens_per_pass",
    "Checkpoints and trackers": "checkpoint_every",
}
"""The headings of `train`, as comments in `TrainConfig` have them, each with its first field."""
DEFAULTS = {"metrics": "those of the kind"}
"""The defaults of fields that every kind of task has, and has its own default of."""
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "at least"}
HEAD = """\
# Settings

This page is made from the code by `python scripts/settings_reference.py`; do not edit it by hand.

A field is set in a YAML file, or on the command line by its dotted path, with a YAML value:
`method.rank=4`, `train.early_stopping.patience=3`, `train.clip_norm=null`. YAML's word for "none"
is `null`. An unknown field is an error that names the nearest known one.
"""


def settings_reference() -> str:
    """Return the text of docs/settings.md."""
    parts = [HEAD, "## A run\n", table(RunConfig)]
    parts.append("## `task`\n\nA name of the catalogue (`tunewise list tasks`), or one of these.\n")
    parts += ["### Every kind of task\n", table(Task)]
    for kind, task in TASKS.items():
        metrics = ", ".join(f"`{name}`" for name in task.model_fields["metrics"].default)
        own = table(task, shared=Task)
        parts += [f"### `kind: {kind}`\n", f"{about(task)} Metrics: {metrics}.\n", own]
    for path, settings in INNER.items():
        parts += [f"### `{path}`\n", f"{about(settings)}\n", table(settings)]
    parts.append("## `method`\n\nA kind alone, such as `method: lora`, or one of these.\n")
    for kind, method in METHODS.items():
        rate = f"Default learning rate: `{method.default_learning_rate:g}`."
        link = f"More in [methods/{kind}.md](methods/{kind}.md)."
        parts += [f"### `kind: {kind}`\n", f"{about(method)} {rate} {link}\n", table(method)]
    parts.append("## `train`\n")
    for heading, fields in train_groups().items():
        parts += [f"### {heading}\n", rows_of(fields)]
    parts.append("### `train.objective`\n\nA kind alone, or a kind with settings of its own.\n")
    for kind, objective in OBJECTIVES.items():
        parts += [f"#### `kind: {kind}`\n", f"{about(objective)}\n", table(objective)]
    parts.append("### `train.optimizer`\n\nA name alone, or a kind with settings of its own.\n")
    for kind, rule in OPTIMIZERS.items():
        parts += [f"#### `kind: {kind}`\n", f"{about(rule)}\n", table(rule)]
    parts += ["### `train.early_stopping`\n", f"{about(EarlyStopping)}\n", table(EarlyStopping)]
    return "\n".join(parts)


def method_page(kind: str) -> str:
    """Return the text of a method's page, with the table under "Settings" as the code has it."""
    page = (METHOD_PAGES / f"{kind}.md").read_text("utf-8")
    before, heading, after = page.partition(SETTINGS_HEADING)
    if not heading:
        return page
    _, _, rest = after.lstrip("\n").partition("\n\n")
    return f"{before}{heading}\n{table(METHODS[kind])}\n{rest}"


def table(settings: type[Settings], shared: type[Settings] = Settings) -> str:
    """Return a table with a row for each field; `kind` is left out, since it is in the heading.

    Args:
        shared: a base class whose fields are left out too, since they have their own table.
    """
    left_out = {"kind", *shared.model_fields}
    fields = {name: f for name, f in settings.model_fields.items() if name not in left_out}
    return rows_of(fields) if fields else "It has no settings.\n"


def rows_of(fields: dict[str, FieldInfo]) -> str:
    """Return some fields as a table, one row each."""
    rows = [row(name, field) for name, field in fields.items()]
    return "\n".join(["| field | type | default | what it is |", "|---|---|---|---|", *rows, ""])


def train_groups() -> dict[str, dict[str, FieldInfo]]:
    """Return the fields of `train` under their headings, in the order of the class."""
    headings = {first: heading for heading, first in TRAIN_GROUPS.items()}
    groups: dict[str, dict[str, FieldInfo]] = {}
    for name, field in TrainConfig.model_fields.items():
        if name in headings:
            heading = headings[name]
        groups.setdefault(heading, {})[name] = field
    return groups


def row(name: str, field: FieldInfo) -> str:
    """Return the row of one field."""
    kind = f"[see below]({SECTIONS[name]})" if name in SECTIONS else _type(field.annotation)
    bounds = [
        f"{sign} {getattr(bound, attribute)}"
        for bound in field.metadata
        for attribute, sign in BOUNDS.items()
        if getattr(bound, attribute, None) is not None
    ]
    assert field.description, f"{name} has no description: write a line under the field"
    shown = f"`{field.alias or name}`"
    default = DEFAULTS.get(name) or _default(field)
    cells = (shown, ", ".join([kind, *bounds]), default, field.description)
    return f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |"


def about(settings: type[Settings]) -> str:
    """Return the first line of a class's docstring."""
    return (settings.__doc__ or "").split("\n")[0]


def _type(kind: Any) -> str:
    """Return the name of a type as a user knows it, with a link if it has fields itself."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"mapping of {_type(inner[0])} to {_type(inner[1])}"
    words = {NoneType: "null", str: "text", int: "whole number", float: "number", Path: "path"}
    words |= {bool: "true or false", EarlyStopping: "[settings](#trainearly_stopping)"}
    words |= {of_task: f"[settings](#{path.replace('.', '')})" for path, of_task in INNER.items()}
    return words[kind]


def _default(field: FieldInfo) -> str:
    """Return the default of a field as it is written in YAML, or in words."""
    if field.is_required():
        return "must be given"
    if isinstance(field.default, UpdateRule):
        return f"`{field.default.name}`"
    if isinstance(field.default, Objective):
        return f"`{field.default.kind}`"
    if isinstance(field.default, BaseModel):
        return "the defaults of its fields"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(str, field.default))}]`"
    if field.default == "":
        return "empty"
    is_line = isinstance(field.default, str) and "\n" not in field.default
    shown = field.default if is_line else json.dumps(field.default, ensure_ascii=False)
    return f"`{shown}`"


if __name__ == "__main__":
    REFERENCE.write_text(settings_reference(), "utf-8")
    for name in METHODS:
        (METHOD_PAGES / f"{name}.md").write_text(method_page(name), "utf-8")
