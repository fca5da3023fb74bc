"""JSON as its standard has it: a key that occurs twice and a number that is none are refused."""

import json
import reprlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tunewise.data.names import column_names
from tunewise.errors import DataError


@dataclass(frozen=True)
class Fault:
    """Stands for a value that Python's reader accepts and JSON does not."""

    what: str


def read_json(text: str, where: str) -> Any:
    """Return the value of a JSON text, with a `Fault` in place of what is no JSON.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}") from error


def object_columns(values: Any, where: str) -> dict[str, Any]:
    """Return the values of a JSON object by the names of their columns.

    Raises:
        DataError: if it is no object, or holds a `Fault`.
    """
    if fault := _fault_in(values):
        raise DataError(f"{where}: not valid JSON: {fault.what}")
    if not isinstance(values, dict):
        raise DataError(f"{where}: the row is {reprlib.repr(values)}, not a JSON object")
    columns = dict(zip(column_names(values, where), values.values(), strict=True))
    columns.pop("", None)
    return columns


def _fault_in(values: Any) -> Fault | None:
    """Return the first fault found in a value; it may be nested more deeply than Python calls."""
    unseen = [values]
    while unseen:
        value = unseen.pop()
        if isinstance(value, Fault):
            return value
        if isinstance(value, (dict, list)):
            unseen += value.values() if isinstance(value, dict) else value
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Fault:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
    return Fault(f"the key {twice!r} is there twice; keep one")


def _constant(name: str) -> Fault:
    return Fault(f"{name} is no value of JSON; write null, or leave the row out")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
