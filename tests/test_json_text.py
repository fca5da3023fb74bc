"""All JSON that is written is valid, also where numbers are not finite."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import tunewise
from tunewise.json_text import to_json

NUMBERS = [math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324, 0.1, 3, True, None]


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"ascii_only": False, "sort_keys": True}])
def test_a_number_that_is_not_finite_is_null_wherever_it_stands(layout: dict[str, Any]) -> None:
    values = {"list": NUMBERS, "tuple": tuple(NUMBERS), "deep": {"é": [{"x": n} for n in NUMBERS]}}

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(to_json(values, **layout), parse_constant=refuse)
    expected = [None, None, None, *NUMBERS[3:]]
    assert found["list"] == found["tuple"] == expected
    assert [entry["x"] for entry in found["deep"]["é"]] == expected


def test_what_is_finite_is_written_as_python_writes_it() -> None:
    values = {"b": [1.5, "naïve", None], "a": {"x": (1, 2)}}
    assert to_json(values) == json.dumps(values)
    assert to_json(values, indent=2) == json.dumps(values, indent=2)
    assert to_json(values, ascii_only=False) == json.dumps(values, ensure_ascii=False)
    assert to_json(values, sort_keys=True) == json.dumps(values, sort_keys=True)


def test_nothing_in_the_package_writes_json_by_itself() -> None:
    root = Path(tunewise.__file__).parent
    own = re.compile(r"\bjson\.dumps?\(|from json import|import json as|orjson|ujson")
    files = [path for path in root.rglob("*.py") if own.search(path.read_text("utf-8"))]
    assert [path.relative_to(root).as_posix() for path in files] == ["json_text.py"]
