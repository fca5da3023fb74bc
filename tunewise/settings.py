"""Settings: what a person writes or the disk keeps, checked field by field.

`Settings` is the base class, `validate` makes one from plain values, or says in one line what is
wrong with them, and `union_by_kind` names the members of a union of settings.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from tunewise.errors import ConfigError, nearest
from tunewise.field_names import our_name, places_of
from tunewise.yaml import SPACE_MISSING, with_space

_WHOLE = "a whole number is needed, without a unit or separators"
_NUMBER = "a number is needed, with a point and without a unit, such as 0.5 or 1e-4"
_FIELDS = "fields are needed: `name: value`"
MESSAGES = {
    "tuple_type": "a list is needed, such as [first, second]",
    "list_type": "a list is needed, such as [first, second]",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_type": "true or false is needed",
    "bool_parsing": "true or false is needed",
    "string_type": "a text is needed, in quotes if it looks like anything else",
    "model_type": _FIELDS,
    "model_attributes_type": _FIELDS,
    "dict_type": _FIELDS,
    "missing": "is needed",
}
"""Messages in place of those of pydantic that speak of Python's types, by type of error."""


class Settings(BaseModel):
    """Base class of every part of a configuration: frozen, and without unknown fields.

    The line under a field describes it; `docs/settings.md` is made from these lines.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_field(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            names = [field.alias or name for name, field in cls.model_fields.items()]
            for key in values:
                if key not in names:
                    ours = our_name(str(key), names)
                    hint = nearest(ours, names)
                    shown = {"field": repr(key), "hint": hint, "key": key, "is_here": ours in names}
                    raise PydanticCustomError(
                        "unknown_field", "unknown field {field}; {hint}", shown
                    )
        return values

    @model_validator(mode="before")
    @classmethod
    def _take_no_truth_value_for_a_number(cls, values: Any) -> Any:
        # Python counts True as 1.
        for name, field in cls.model_fields.items() if isinstance(values, Mapping) else ():
            if isinstance(values.get(name), bool):
                kinds = _kinds_in(field.annotation)
                if kinds & {int, float} and bool not in kinds:
                    raise PydanticCustomError("truth_value", f"{name}: {_NUMBER}", {"key": name})
        return values


AnySettings = TypeVar("AnySettings", bound=Settings)


def validate(kind: type[AnySettings], values: Mapping[str, Any], where: str) -> AnySettings:
    """Return settings of a class, made from plain values.

    Args:
        where: where the values came from, such as the name of a file, for the error.

    Raises:
        ConfigError: if they are wrong; it names the first wrong field and its value in one line.
    """
    try:
        return kind.model_validate(values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(kind, values, error)}") from error


def _first_problem(kind: type[Settings], values: Any, error: ValidationError) -> str:
    """Return the first wrong field, what is wrong with it, and its value."""

    def path_of(one: ErrorDetails) -> list[str]:
        return _path(one["loc"], values, missing=one["type"] == "missing")

    errors = error.errors()
    start = path_of(errors[0])
    # Of a field that may be one of several kinds, what is wrong deepest inside says most.
    first = max(
        (e for e in errors if path_of(e)[: len(start)] == start),
        key=lambda e: len(path_of(e)) - (e["type"] == "missing"),
    )
    path, value = path_of(first), first["input"]
    message = MESSAGES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if first["type"] == "truth_value":
        key = first["ctx"]["key"]
        path, value, message = [*path, key], value[key], _NUMBER
    elif first["type"] == "unknown_field":
        key = str(first["ctx"]["key"])
        places = [p for p in places_of(kind, key) if p.split(".")[:-1] != path]
        if places and not first["ctx"]["is_here"]:
            message = f"unknown field {key!r}; did you mean {' or '.join(map(repr, places[:3]))}?"
    elif first["type"] in MESSAGES and isinstance(value, str) and (pair := with_space(value)):
        message = f"{SPACE_MISSING} {pair}"
    shown = f" (found {value!r})" if isinstance(value, (str, int, float)) else ""
    shown = " (found null)" if value is None else shown
    return f"{'.'.join(path)}{': ' if path else ''}{message}{shown}"


def union_by_kind(union: Any) -> dict[str, type[Any]]:
    """Return the members of a union of settings by their `kind`, in the order of the union.

    Args:
        union: such as `Full | LoRA`, or that with a discriminator; each member has a field such as
            `kind: Literal["lora"] = "lora"`.
    """
    plain = get_args(union)[0] if get_origin(union) is Annotated else union
    return {member.model_fields["kind"].default: member for member in get_args(plain)}


def _kinds_in(annotation: Any) -> set[Any]:
    """Return the types that a field may hold."""
    return {annotation}.union(*map(_kinds_in, get_args(annotation)))


def _path(location: tuple[int | str, ...], values: Any, missing: bool) -> list[str]:
    """Return the path of a wrong field as the user wrote it.

    pydantic adds the kinds of unions to it: `method.lora.rank` is the user's `method.rank`. So only
    those steps count that lead to a value; a missing field has none.
    """
    path: list[str] = []
    for index, step in enumerate(location):
        inside = isinstance(values, Mapping) and step in values
        inside = inside or (isinstance(values, (list, tuple)) and isinstance(step, int))
        if inside:
            values = values[step]
        if inside or (missing and index == len(location) - 1):
            path.append(str(step))
    return path
