"""Fields that a study sets twice: refused, since the later value would win without a word.

A configuration is made from `base`, then an entry of `runs`, a point of `vary`, and a candidate of
`tune` or `search`. Each of these parts may set what the parts before it have left open:
`method: lora` in `runs`, and `method.rank` in `vary`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.training.config import NEW_NAMES
from tunewise.training.optimizers import NAMES

Field = tuple[str, ...]
"""The steps of a field's dotted path, by their present names."""


@dataclass(frozen=True)
class Setting:
    """One field that a part of a study sets."""

    part: str
    """The part, for messages."""
    path: str
    """The field's dotted path."""
    values: Sequence[Any]
    """The values that it may get there."""


def field_of(path: str) -> Field:
    """Return the field of a dotted path; an old name and its new one are the same field."""
    match tuple(path.split(".")):
        case ("train", name, *inner):
            return ("train", NEW_NAMES.get(name, name), *inner)
        case field:
            return field


def refuse_overwritten(settings: Sequence[Setting]) -> None:
    """Raise ValueError if a setting overwrites what one before it has set.

    Args:
        settings: in the order in which they are made.
    """
    earlier: list[tuple[Field, Setting]] = []
    for setting in settings:
        field = field_of(setting.path)
        for other, by in earlier:
            length = min(len(field), len(other))
            if field[:length] == other[:length]:
                raise ValueError(_twice(setting, by, ".".join(other)))
        earlier += [(f, setting) for value in setting.values for f in fields_in(field, value)]


def left_out(base: Mapping[str, Any], settings: Sequence[Setting]) -> list[str]:
    """Return the fields of `base` that a whole value of the same kind leaves out.

    With `base: {method: {kind: lora, rank: 4}}`, `method: lora` of a cell is one of the default
    rank. `method: full` is another kind, for which the rank was never meant.
    """
    given = [field for key, value in base.items() for field in fields_in((key,), value)]
    dropped: dict[str, None] = {}
    for setting in settings:
        whole = field_of(setting.path)
        for value in setting.values:
            kept = set(fields_in(whole, value))
            if _kind_of(whole, base) != _kind_of((), value):
                continue
            for field in given:
                is_inside = len(field) > len(whole) and field[: len(whole)] == whole
                if is_inside and field not in kept and field[-1] not in ("kind", "name"):
                    dropped[".".join(field)] = None
    return list(dropped)


def _kind_of(path: Field, values: Any) -> Any:
    """Return the kind of the settings at a path; a name is a kind."""
    for step in path:
        values = values.get(step) if isinstance(values, Mapping) else None
    return values.get("kind") if isinstance(values, Mapping) else values


def fields_in(field: Field, value: Any) -> Iterator[Field]:
    """Yield the fields that a value sets; a name sets the fields that it stands for."""
    match field:
        case ("method",) | ("train", "objective") if isinstance(value, str):
            value = {"kind": value}
        case ("task",) if isinstance(value, str):
            value = {"name": value}  # its template and the like are defaults, which may be set
        case ("train", "optimizer") if isinstance(value, str):
            value = NAMES.get(value, {"kind": value})
    if not isinstance(value, Mapping):
        yield field
        return
    for key, inner in value.items():
        yield from fields_in(field_of(".".join((*field, str(key)))), inner)


def _twice(later: Setting, earlier: Setting, field: str) -> str:
    if later.part == earlier.part and earlier.path.startswith(f"{later.path}."):
        return f"{later.part}: {later.path} would overwrite {earlier.path}; put {later.path} first"
    if field_of(later.path) == field_of(earlier.path):
        names = "" if later.path == earlier.path else f" (as {later.path})"
        problem = f"{earlier.path} is set by {earlier.part} and again by {later.part}{names}"
    else:
        what = field if earlier.path == field else f"{field} (in {earlier.path})"
        problem = f"{later.part} sets {later.path}, which would overwrite {what}, set by"
        problem += f" {earlier.part}"
    return f"{problem}; set each field in one place"
