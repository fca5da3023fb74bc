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
        hint = _hint(text, error.pos) if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"{where}: not valid JSON: {error}{hint}") from error


def object_columns(values: Any, where: str) -> dict[str, Any]:
    """Return the values of a JSON object by the names of their columns.

    Raises:
        DataError: if it is no object, or holds a `Fault`.
    """
    if fault := _fault_in(values):
        raise DataError(f"{where}: not valid JSON: {fault.what}")
    if not isinstance(values, dict):
        is_file = isinstance(values, list) and values and isinstance(values[0], dict)
        hint = "; a file that holds a list of objects is named .json" if is_file else ""
        raise DataError(f"{where}: the row is {reprlib.repr(values)}, not a JSON object{hint}")
    columns = dict(zip(column_names(values, where), values.values(), strict=True))
    columns.pop("", None)
    return columns


def list_inside(values: Any) -> str:
    """Return where the rows of a JSON value are that is no list of them, if it shows."""
    if not isinstance(values, dict) or not values:
        return ""
    rows = [key for key, value in values.items() if isinstance(value, list) and value]
    if rows := [key for key in rows if isinstance(values[key][0], dict)]:
        return f"; there is one in {', '.join(map(repr, rows))}: write it to a file of its own"
    if all(isinstance(value, list) for value in values.values()):
        return "; it holds a list for each column: pandas writes rows with orient='records'"
    if all(isinstance(value, dict) for value in values.values()):
        return "; it holds objects by their keys: leave the keys out (pandas: orient='records')"
    return ""


def _hint(text: str, place: int) -> str:
    """Return what is to be done about a JSON text that cannot be read from this place on."""
    before, behind = text[:place].rstrip(), text[place:].strip()
    if before.endswith(",") and behind[:1] in ("]", "}"):
        return "; remove the comma before it"
    if behind == ",":
        return "; remove the comma at its end"
    if before in ("", "[", "{") and behind in ("", "[", "{"):
        return "; is the file one JSON value on many lines? A list of objects is read as .json"
    if behind.startswith("'"):
        return "; JSON has double quotes"
    return ""


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
