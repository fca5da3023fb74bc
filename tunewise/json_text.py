"""JSON as its standard has it: a number that is not finite is written as null.

Python's own writes NaN and Infinity, which are no JSON: other programs refuse the whole file.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def to_json(
    values: Any,
    *,
    indent: int | None = None,
    ascii_only: bool = True,
    sort_keys: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Return values as JSON, in which null stands for each number that is not finite.

    Args:
        indent: the spaces of a level; None writes one line.
        ascii_only: whether other characters are escaped.
        sort_keys: whether the keys of each object are sorted.
        default: returns what is written for a value that JSON has no form for, such as a date.
    """

    def dump(values: Any) -> str:
        return json.dumps(
            values,
            indent=indent,
            ensure_ascii=ascii_only,
            sort_keys=sort_keys,
            default=default,
            allow_nan=False,
        )

    try:
        return dump(values)
    except ValueError:  # so that nothing is copied where all is finite
        return dump(_finite(values))


def _finite(values: Any) -> Any:
    """Return values with None in place of each number that is not finite."""
    if isinstance(values, float) and not math.isfinite(values):
        return None
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return values
