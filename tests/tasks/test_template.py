"""Templates are data: columns in braces, one of which may lose its end, and nothing that runs."""

from pathlib import Path
from typing import Any

import pytest

from tunewise.config import make_config
from tunewise.errors import ConfigError, DataError
from tunewise.tasks.classification import Classification
from tunewise.tasks.template import Filled, columns_of, fill

VALUES = {"a": "<A>", "b": "<B>", "article": "The news.", "a.b": "dotted", "two words": "<2>"}


def filled(template: str, **values: str) -> tuple[str, str]:
    return texts(fill(template, (VALUES | values).__getitem__))


def texts(found: Filled) -> tuple[str, str]:
    return found.prompt.value, found.cue.value


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("{a}", ("<A>", "")),
        ("{article}\nTL;DR:", ("The news.", "\nTL;DR:")),
        ("say {a} and {b}!", ("say <A> and <B>", "!")),
        ("{a*} and {b}!", ("<A>", " and <B>!")),
        ("say {a*}{b}", ("say <A>", "<B>")),
        ("{a} and {b*}!", ("<A> and <B>", "!")),
        ("{a} then {a}.", ("<A> then <A>", ".")),
        ("{a*} then {a}.", ("<A>", " then <A>.")),
        ("{a} then {a*}.", ("<A> then <A>", ".")),
        ("{two words}", ("<2>", "")),
    ],
)
def test_the_cue_is_what_stands_behind_the_star_or_the_last_column(
    template: str, parts: tuple[str, str]
) -> None:
    assert filled(template) == parts


@pytest.mark.parametrize(
    ("template", "text"),
    [("{{{a}}}", "{<A>}"), ("{{a}} {b}", "{a} <B>"), ("{a} }}{{", "<A> }{"), ("{{{{{a}", "{{<A>")],
)
def test_two_braces_stand_for_one(template: str, text: str) -> None:
    assert "".join(filled(template)) == text


@pytest.mark.parametrize("value", ["{b}", "{{", "}", "{0.__class__}", "%s $a \\1"])
def test_braces_in_a_value_stay_as_they_are(value: str) -> None:
    assert filled("{a}, {b}", a=value) == (f"{value}, <B>", "")


@pytest.mark.parametrize("column", ["a.b", "a[0]", "a.__class__.__mro__", "0"])
def test_what_looks_like_code_is_only_the_name_of_a_column(column: str) -> None:
    assert columns_of(f"{{{column}}}") == [column]
    found = fill(f"{{{column}}}", {column: "as it stands"}.__getitem__)
    assert texts(found) == ("as it stands", "")


def test_columns_come_in_order_without_their_stars() -> None:
    assert columns_of("{b} {a*} {{c}} {b}") == ["b", "a", "b"]
    assert columns_of("no column") == []


BAD = {
    "an open brace": ("{a", "expected '}'"),
    "a closing brace": ("a}", "Single '}'"),
    "empty braces": ("{}", "the name of a column"),
    "a star alone": ("{*}", "the name of a column"),
    "a double star": ("{a**}", "the name of a column"),
    "a star in front": ("{*a}", "the name of a column"),
    "a conversion": ("{a!r}", "the name of a column"),
    "a format": ("{a:>10}", "the name of a column"),
    "two stars": ("{a*} {b*}", "only one column"),
    "no column": ("text", "names no column"),
    "escaped columns only": ("{{a}}", "names no column"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("kind", "field", "rest"),
    [
        ("classification", "template", {}),
        ("cloze", "template", {"verbalizers": {"0": " no", "1": " yes"}}),
        ("generation", "completion", {}),
        ("instruction", "with_input", {}),
        ("summarization", "summary", {}),
    ],
)
def test_a_template_that_is_none_is_a_mistake_of_the_configuration(
    kind: str, field: str, rest: dict[str, Any], bad: str
) -> None:
    template, named = BAD[bad]
    task = {"kind": kind, "path": "rows.csv", field: template, **rest}
    with pytest.raises(ConfigError) as caught:
        make_config(fields={"task": task})
    found = str(caught.value)
    assert f"task.{field}: " in found
    assert named in found
    assert "\n" not in found


def test_a_column_that_a_row_lacks_is_named_with_the_row_and_the_columns_there_are(
    tmp_path: Path,
) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.csv").write_text("title,body,label\nnews,rain,0\nsport,goal,1\n")
    task = Classification(path=tmp_path, template="{title}\n{text}")
    with pytest.raises(DataError, match=r"train\.csv:2: no column 'text'; .*title, body, label"):
        task.examples("train")
