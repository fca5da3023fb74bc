"""Settings: what a person writes or the disk keeps, checked field by field.

`Settings` is the base class, `validate` makes one from plain values, or says in one line what is
wrong with them, and `union_by_kind` names the members of a union of settings.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tunewise.errors import ConfigError, nearest

MESSAGES = {"tuple_type": "a list is needed, such as [first, second]"}
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
                    hint = nearest(str(key), names)
                    raise PydanticCustomError("unknown_field", f"unknown field {key!r}; {hint}")
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
        first = error.errors()[0]
        path = _path(first["loc"], values, missing=first["type"] == "missing")
        message = MESSAGES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
        value = first["input"]
        shown = f" (found {value!r})" if isinstance(value, (str, int, float, bool)) else ""
        raise ConfigError(f"{where}: {path + ': ' if path else ''}{message}{shown}") from error


def union_by_kind(union: Any) -> dict[str, type[Any]]:
    """Return the members of a union of settings by their `kind`, in the order of the union.

    Args:
        union: such as `Full | LoRA`, or that with a discriminator; each member has a field such as
            `kind: Literal["lora"] = "lora"`.
    """
    plain = get_args(union)[0] if get_origin(union) is Annotated else union
    return {member.model_fields["kind"].default: member for member in get_args(plain)}


def _path(location: tuple[int | str, ...], values: Any, missing: bool) -> str:
    """Return the dotted path of a wrong field as the user wrote it.

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
    return ".".join(path)
