"""Rows that cannot be used: all are counted before anything is computed, or left out on request."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import TASK_SETTINGS

from tunewise.config import make_config
from tunewise.data.example import Example
from tunewise.data.rows import SPLITS, Split
from tunewise.errors import DataError
from tunewise.tasks import TASKS, Classification, Task

GOOD: list[dict[str, Any]] = [
    {
        "text": f"text {n}, a film",
        "label": "good" if n % 2 else "bad",
        "instruction": f"{n}",
        "output": f" {n}",
    }
    for n in range(40)
]
BAD: dict[str, str] = {
    "not JSON": '{"text": "a"',
    "no object": "[1]",
    "no columns": "{}",
    "a number": '{"text": 3, "label": "good", "instruction": 3, "output": 4}',
}
"""Lines that no kind of task can use."""
BAD_LABELS: dict[str, Any] = {"null": None, "empty": " ", "a list": ["good"], "an object": {}}


def task_of(kind: str, path: Path, **settings: Any) -> Task:
    fields = {"kind": kind, "path": str(path)} | TASK_SETTINGS.get(kind, {}) | settings
    return make_config(fields={"task": fields}).task


def written(path: Path, bad: dict[int, str]) -> Path:
    """Write the good rows, with these lines at these places among them."""
    lines = [json.dumps(row) for row in GOOD]
    for place, line in sorted(bad.items()):
        lines.insert(place, line)
    path.write_text("\n".join(lines) + "\n")
    return path


def contents(examples: list[Example]) -> list[tuple[str, ...]]:
    return [(e.prompt, e.cue, e.target, *e.choices) for e in examples]


@pytest.mark.parametrize("kind", TASKS)
def test_dropping_rows_gives_the_examples_of_a_file_without_them(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = task_of(kind, written(tmp_path / "clean.jsonl", {}))
    places = dict(zip((0, 7, 20, 43), BAD.values(), strict=True))
    dirty = task_of(kind, written(tmp_path / "dirty.jsonl", places), bad_rows="drop")
    caplog.clear()
    for split in SPLITS:
        assert contents(dirty.examples(split)) == contents(clean.examples(split))
    (said,) = caplog.messages
    assert said.startswith("train: 4 of 44 rows cannot be used; the first: ")
    assert f"{tmp_path.as_posix()}/dirty.jsonl:1: not valid JSON" in said
    assert said.endswith("; they are left out")


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_all_rows_are_looked_at_before_the_first_bad_one_is_named(
    kind: str, split: Split, tmp_path: Path
) -> None:
    places = dict(zip((5, 8, 20, 43), reversed(BAD.values()), strict=True))
    path = written(tmp_path / "rows.jsonl", places)
    with pytest.raises(DataError) as caught:
        task_of(kind, path).examples(split)
    assert str(caught.value).startswith("4 of 44 rows cannot be used; the first: ")
    assert "rows.jsonl:6: " in str(caught.value)
    assert str(caught.value).endswith("or leave them out with task.bad_rows=drop")


@pytest.mark.parametrize("name", BAD)
def test_a_single_bad_row_is_named_with_what_can_be_done(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", {3: BAD[name]})
    with pytest.raises(DataError, match=r"^\S*rows\.jsonl:4: .*; correct it, or leave the row out"):
        Classification(path=path).examples("train")


@pytest.mark.parametrize("name", BAD_LABELS)
def test_a_row_without_a_label_takes_no_part_in_the_split(name: str, tmp_path: Path) -> None:
    row = json.dumps({"text": "a", "label": BAD_LABELS[name]})
    path = written(tmp_path / "rows.jsonl", dict.fromkeys((3, 9, 12, 20, 30), row))
    clean = Classification(path=written(tmp_path / "clean.jsonl", {}))
    for split in SPLITS:
        task = Classification(path=path, bad_rows="drop")
        assert contents(task.examples(split)) == contents(clean.examples(split))
    with pytest.raises(DataError, match=r"^5 of 45 rows cannot be used; the first: .*:4: "):
        Classification(path=path).examples("test")


@pytest.mark.parametrize("bad_rows", ["stop", "drop"])
def test_a_setting_that_suits_no_row_is_refused_whatever_is_done_with_bad_rows(
    bad_rows: Any, tmp_path: Path
) -> None:
    path = written(tmp_path / "rows.jsonl", {})
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no column 'stars'"):
        Classification(path=path, label="stars", bad_rows=bad_rows).examples("train")


@pytest.mark.parametrize("bad_rows", ["stop", "drop"])
def test_a_file_of_broken_rows_is_refused_with_the_first(bad_rows: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("[1]\n[2]\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*not a JSON object"):
        Classification(path=tmp_path / "rows.jsonl", bad_rows=bad_rows).examples("train")


def test_test_rows_with_a_label_that_never_occurs_in_training_are_dropped_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in SPLITS:
        labels = ["pos", "neg", "pos", "neg"] + ["neutral"] * (split == "test")
        rows = [{"text": f"{split} {n}", "label": x} for n, x in enumerate(labels)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = r"test\.jsonl:5: label 'neutral' never occurs in training"
    with pytest.raises(DataError, match=found):
        Classification(path=tmp_path).examples("test")
    examples = Classification(path=tmp_path, bad_rows="drop").examples("test")
    assert [example.target for example in examples] == ["pos", "neg", "pos", "neg"]
    assert caplog.messages[0].startswith("test: 1 of 5 rows cannot be used: ")


def test_labels_of_rows_that_cannot_be_used_are_no_classes(tmp_path: Path) -> None:
    row = json.dumps({"text": 3, "label": "a class of its own"})
    task = Classification(path=written(tmp_path / "rows.jsonl", {3: row}), bad_rows="drop")
    assert task.examples("train")[0].choices == ("bad", "good")
