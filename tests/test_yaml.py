"""YAML as people write it: keys stay as written, and a mistake is named in the writer's words."""

from pathlib import Path

import pytest
import yaml

from tunewise.config import make_config, parse_word
from tunewise.errors import ConfigError
from tunewise.yaml import dump_yaml, load_yaml

KEYS = [
    *("TRUE", "False", "true", "yes", "No", "on", "OFF", "y", "null", "NULL", "~"),
    *("1", "01", "1.0", "1.50", "1e3", "0o7", "0x1F", "1_000", "+1", "-0", ".5", ".inf", ".nan"),
    *("2024-01-01", "12:30", "12:30:45", "=", "a b", "a.b", "http://x", "é"),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", ["{}: x", "{{{}: x}}", "'{}': x", '{{"{}": x}}', "? {}\n: x"])
def test_a_key_is_the_text_that_was_written(key: str, form: str) -> None:
    assert load_yaml(form.format(key)) == {key: "x"}
    assert load_yaml(dump_yaml({key: {key: 1}})) == {key: {key: 1}}


def test_keys_that_only_look_alike_are_different() -> None:
    keys = ["1", "1.0", "TRUE", "true", "yes"]
    assert list(load_yaml("{1: a, 1.0: b, TRUE: c, true: d, yes: e}")) == keys


@pytest.mark.parametrize(
    "text", ["{1: a, '1': b}", '{a: 1, "a": 2}', "no: 1\nyes: 2\nno: 3", "{~: 1, ~: 2}"]
)
def test_a_key_that_is_written_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="is given twice"):
        load_yaml(text)


def test_a_key_may_be_an_alias_and_a_merged_field_may_be_overridden() -> None:
    assert load_yaml("x: &a 1\n*a : 2") == {"x": 1, "1": 2}
    assert load_yaml("a: &m {b: 1, 2: c}\nd: {<<: *m, 2: e}")["d"] == {"b": 1, "2": "e"}


SPACE = "a space is missing after a colon: write "
MISTAKES = {
    "{train:600}": SPACE + "{train: 600}",
    "{train: 600, test:5}": SPACE + "{test: 5}",
    "{a: {b: {c:5}}}": SPACE + "{c: 5}",
    "[{train:600}]": SPACE + "{train: 600}",
    "a: 1\nb:\n  c: {train:600}": "line 3: " + SPACE + "{train: 600}",
    "train:\n  epochs: 2\n  batch_size:8\n": "line 3: " + SPACE + "batch_size: 8",
    "train:\n  epochs:2\n  batch_size: 8\n": "line 2: " + SPACE + "epochs: 2",
    "runs:\n  - name:a\n    method: full": "line 2: " + SPACE + "name: a",
    "seed: 1\nmodel: a\nseed: 2": "line 3: 'seed' is given twice",
    "train:\n\tepochs: 2": "line 2: a tab begins the line",
    "train:\n  epochs: 2\n seed: 3": "line 3: the indentation is not that of the lines above",
    "model: a: b": "a text that holds a colon and a space needs quotes",
    "model: 'abc\nseed: 2": "line 1: a quotation mark is not closed",
    "model: @x": "begins with @, % or ` needs quotes",
    "a: [1, 2": "a bracket is not closed",
    "{kind: lora rank: 8}": "a comma is missing",
    "[1, 2": "a bracket is not closed",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_in_a_file_and_in_a_word(text: str, tmp_path: Path) -> None:
    said = MISTAKES[text]
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as in_file:
        make_config(path)
    assert str(in_file.value).startswith(f"{path}: not readable as YAML: ")
    assert said.lower() in str(in_file.value).lower()
    assert "unicode string" not in str(in_file.value)
    with pytest.raises(ConfigError) as in_word:
        parse_word(f"task.samples={text}")
    assert said.lower() in str(in_word.value).lower()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train:\n  epochs:3", "train: " + SPACE + "epochs: 3"),
        ("model:pocket", "`model: pocket` lines are needed"),
        ("model:pocket\nseed:3", "`model: pocket` lines are needed"),
        ("model pocket", "`field: value` lines are needed"),
        ("task: {name: sst5, samples: 'train:600'}", "task.samples: " + SPACE + "train: 600"),
    ],
)
def test_a_space_that_is_missing_is_seen_where_yaml_reads_a_text(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        make_config(path)
    assert f"{path}: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["{'a:b': }", "{a:b: null}", "{a: }", "{a, b}"])
def test_an_empty_value_is_no_mistake_if_a_space_follows_the_colon(text: str) -> None:
    assert set(load_yaml(text).values()) == {None}
