"""YAML that is too large, too deep or not plain is refused, soon and in one line."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewise.config import make_config, parse_word
from tunewise.errors import ConfigError
from tunewise.studies.read import read_study
from tunewise.yaml import MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES, dump_yaml, load_yaml

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 18)
)
CHAIN = "a0: &a0 [ha]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 400))
MERGED = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 18)
)

REFUSED = {
    "a billion laughs": (LAUGHS, "values"),
    "aliases in a chain": (CHAIN, "levels"),
    "merged again and again": (MERGED, "values"),
    "an alias within itself": ("a: &a [*a]", "alias"),
    "a mapping within itself": ("a: &a {b: *a}", "alias"),
    "deep lists": ("[" * 50_000, "levels"),
    "deep mappings": ("{a: " * 50_000, "levels"),
    "deep blocks": ("- " * 50_000, "levels"),
    "too many values": ("[" + "1, " * (MAX_VALUES + 1) + "]", "values"),
    "too long": ("#" * (MAX_CHARACTERS + 1), "characters"),
    "a key twice": ("seed: 1\nmodel: a\nseed: 2", "'seed' is given twice"),
    "a key twice, in quotes": ("a: {b: 1, 'b': 2}", "'b' is given twice"),
    "a Python object": ("!!python/object/apply:os.system ['false']", "tags"),
    "a tag of an impossible number": ("!!int ''", "tags"),
    "a tag of one's own": ("!mine x", "tags"),
    "a list as a key": ("? [a, b]\n: c", "a text is needed"),
    "half a character": ('"\\ud800"', "surrogates"),
    "a number without end": ("seed: " + "9" * 10_000, "digits"),
    "two documents": ("a: 1\n---\nb: 2", "single document"),
    "a NUL": ("a: \0", "not allowed"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_in_one_line_and_soon(tmp_path: Path, what: str) -> None:
    text, word = REFUSED[what]
    path = tmp_path / "run.yaml"
    path.write_text(text)
    start = time.process_time()
    for read in (make_config, read_study):
        with pytest.raises(ConfigError, match=word) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
    assert time.process_time() - start < 10
    with pytest.raises(ConfigError, match="not readable"):
        parse_word(f"task={text}")


def test_what_is_just_within_the_bounds_is_read() -> None:
    assert load_yaml("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    assert len(load_yaml("[" + "1, " * (MAX_VALUES - 1) + "]")) == MAX_VALUES - 1
    assert load_yaml("#" * MAX_CHARACTERS) is None


def test_aliases_and_merges_of_honest_files_are_read() -> None:
    text = "base: &base {rank: 2, alpha: 4}\nsmall: *base\nlarge: {<<: *base, rank: 8}"
    assert load_yaml(text) == {
        "base": {"rank": 2, "alpha": 4},
        "small": {"rank": 2, "alpha": 4},
        "large": {"rank": 8, "alpha": 4},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e5", 1e5), ("-.5", -0.5), ("+1.e-3", 1e-3), (".inf", float("inf")), ("010", 10)),
        *(("yes", "yes"), ("off", "off"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01")),
        *(("0x1F", "0x1F"), ("1_000", "1_000"), ("=", "="), ("~", None), ("True", True)),
        *(("'1'", "1"), ("1.2.3", "1.2.3"), (".", "."), ("-", [None]), ("+", "+")),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(text: str, value: Any) -> None:
    assert load_yaml(text) == value


@pytest.mark.parametrize("key", ["1", "~", "1.5", "true"])
def test_a_key_that_is_no_text_is_an_unknown_field(tmp_path: Path, key: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{key}: x")
    for read in (make_config, read_study):
        with pytest.raises(ConfigError, match="unknown field"):
            read(path)


STUDIES = {
    "fields that are no mapping": "name: s\nruns: [{name: a, fields: 3}]",
    "a task that is a number": "name: s\nbase: {task: 3}\nvary: {task.text: [a, b]}",
    "a kind that is a list": "name: s\nbase: {method: {kind: [lora]}}",
    "keys that are numbers": "name: s\nvary: {method: [{kind: lora, 1: 2}, full]}",
    "a folder above": "name: ..",
    "a folder beside": "name: ../other",
    "a whole path": "name: /tmp/other",
    "a hidden folder": "name: .git",
    "a file in an unknown home": "name: s\nbase: {task: {kind: cloze, path: ~nobody-here/x}}",
    "a path that is too long": "name: s\nbase: {task: {path: " + "x" * 5000 + "}}",
}


@pytest.mark.parametrize("what", STUDIES)
def test_a_study_that_cannot_be_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDIES[what])
    with pytest.raises(ConfigError):
        read_study(path).cells()


@pytest.mark.parametrize("text", ["yes", "1e5", "010", "0x1F", "2024-01-01", "~", "=", "<<", "1:2"])
def test_a_text_that_looks_like_something_else_is_written_for_any_reader(text: str) -> None:
    assert load_yaml(dump_yaml([text])) == yaml.safe_load(dump_yaml([text])) == [text]
