"""Settings: what a person writes or the disk keeps. Frozen, and unknown fields are refused."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tunewise.errors import ConfigError, nearest

MESSAGES = {"tuple_type": "a list is needed, such as [first, second]"}
"""Our words where pydantic's speak of Python's types."""


class Settings(BaseModel):
    """The base of every piece of configuration."""

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
    """Return the settings made from plain values.

    Args:
        where: what the values came from, named in the error.

    Raises:
        ConfigError: one line that names the first field at fault.
    """
    try:
        return kind.model_validate(values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        path = _path(first["loc"], values, missing=first["type"] == "missing")
        message = MESSAGES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
        found = first["input"]
        shown = f" (found {found!r})" if isinstance(found, (str, int, float, bool)) else ""
        raise ConfigError(f"{where}: {path + ': ' if path else ''}{message}{shown}") from error


def _path(location: tuple[int | str, ...], values: Any, missing: bool) -> str:
    """Return the dotted path as the user wrote it, without the tags pydantic adds for unions."""
    path: list[str] = []
    for index, step in enumerate(location):
        inside = isinstance(values, Mapping) and step in values
        inside = inside or (isinstance(values, (list, tuple)) and isinstance(step, int))
        if inside:
            values = values[step]
        if inside or (missing and index == len(location) - 1):
            path.append(str(step))
    return ".".join(path)
