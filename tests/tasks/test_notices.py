"""Rows that are used as they are, and deserve a word: what is said of them, and how often."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import write_splits

from tunewise.config import make_config
from tunewise.data.example import Example
from tunewise.data.rows import SPLITS, Row
from tunewise.device import choose_device
from tunewise.runs.memo import Shared
from tunewise.runs.prepare import prepare
from tunewise.tasks.notices import row_notices, split_notices, warn_of_examples

LABELS = ("neg", "pos")


def examples(name: str, *rows: tuple[str, str], choices: Sequence[str] = LABELS) -> list[Example]:
    return [
        Example(f"{name}:{n}", text, target, tuple(choices))
        for n, (text, target) in enumerate(rows, start=1)
    ]


TRAIN = examples("a", ("one", "pos"), ("two", "neg"), ("three", "pos"))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (examples("b", ("four", "pos"), ("five", "neg")), []),
        (
            examples("b", ("four", "pos"), ("four ", "pos"), ("five", "neg")),
            ["1 of 3 rows are copies of others: b:2 of b:1"],
        ),
        (
            examples("b", ("four", "pos"), ("four", "neg")),
            [
                "1 of 2 rows have the text of another row and a different label: "
                "b:2 'neg', b:1 'pos'"
            ],
        ),
        (
            examples("b", ("four", "pos"), ("two", "neg"), (" one", "pos")),
            [
                "2 of 3 rows are trained on too; leave them out, or the metrics of this split are "
                "too good: b:2 is a:2; b:3 is a:1"
            ],
        ),
        (
            examples("b", ("four", "pos"), ("one", "neg")),
            [
                "1 of 2 rows are trained on too; leave them out, or the metrics of this split are "
                "too good: b:2 is a:1",
                "1 of these have a different label there: b:2 'neg', a:1 'pos'",
            ],
        ),
        (examples("b", ("four", "pos")), ["no row has the label 'neg' (1 in train)"]),
        (examples("b", ("", "pos"), (" ", "neg")), []),  # empty texts are told of as such
        (
            examples("b", *[("four", "pos")] * 9, ("five", "neg")),
            ["8 of 10 rows are copies of others: b:2 of b:1; b:3 of b:1; b:4 of b:1; and 5 more"],
        ),
    ],
)
def test_copies_leaks_and_missing_labels_are_counted(found: list[Example], said: list[str]) -> None:
    assert split_notices(found, TRAIN) == said


def test_two_answers_to_one_prompt_are_no_copies() -> None:
    train = examples("a", ("Write.", "one"), ("Write.", "two"), choices=())
    assert split_notices(train) == []
    assert split_notices(examples("b", ("Write.", "three"), choices=()), train) == []
    (leak,) = split_notices(examples("b", ("Write.", "two"), choices=()), train)
    assert leak.startswith("1 of 1 rows are trained on too")


def test_the_parts_of_a_text_are_not_mixed_up() -> None:
    one, two = (Example(f"a:{n}", *parts) for n, parts in enumerate((("ab", "c"), ("a", "bc"))))
    assert split_notices([one, two]) == []


def test_a_label_that_is_only_in_the_settings_is_said_of_training() -> None:
    found = examples("a", ("one", "pos"), ("two", "neg"), choices=("neg", "pos", "neutral"))
    assert split_notices(found) == ["no row has the label 'neutral'"]


@pytest.mark.parametrize("text", ["", "  ", "\n\t", None])
def test_empty_texts_are_counted_by_column(text: str | None) -> None:
    rows = [Row({"a": "x", "b": text}, "f.csv:2"), Row({"a": "x", "b": "y"}, "f.csv:3")]
    assert row_notices(rows, ["a", "b", "absent"]) == [
        "1 of 2 rows have an empty text in column 'b' and are used so: f.csv:2"
    ]


@pytest.mark.parametrize("text", ["NULL", " nan ", "#REF!"])
def test_texts_that_may_stand_for_no_value_are_counted_by_column(text: str) -> None:
    rows = [Row({"a": "no", "b": text}, "f.csv:2"), Row({"a": "x", "b": "y"}, "f.csv:3")]
    assert row_notices(rows, ["a", "b"]) == [
        "1 of 2 rows have a text in column 'b' that may stand for no value, and are used so: "
        f"f.csv:2 {text.strip()!r}"
    ]


def test_test_rows_that_choose_the_best_state_are_said(caplog: pytest.LogCaptureFixture) -> None:
    held_out = examples("b", ("four", "pos"), ("five", "neg"))
    other = examples("c", ("six", "pos"), ("five", "neg"))
    warn_of_examples("validation", {"train": TRAIN, "validation": held_out, "test": other})
    warn_of_examples("test", {"train": TRAIN, "test": other})
    assert not caplog.messages
    warn_of_examples("test", {"train": TRAIN, "validation": held_out, "test": other})
    (said,) = caplog.messages
    assert said.startswith("test: 1 of 2 rows are validation rows too")
    assert said.endswith(": c:2 is b:2")


def test_copies_may_differ_in_case_and_spaces() -> None:
    (said,) = split_notices(examples("b", ("ONE  ", "pos"), ("four", "neg")), TRAIN)
    assert said.startswith("1 of 2 rows are trained on too")
    (said,) = split_notices(examples("b", ("a b", "pos"), ("A\n b", "pos"), ("four", "neg")))
    assert said == "1 of 3 rows are copies of others: b:2 of b:1"


@pytest.mark.parametrize(
    ("task", "row", "unread"),
    [
        ({"kind": "classification"}, {"text": "a", "label": "x", "id": 3, "b": "t"}, "id, b"),
        ({"kind": "language_modeling"}, {"text": "a", "url": "u", "empty": None}, "url"),
        ({"kind": "generation"}, {"prompt": "a", "completion": "b"}, None),
        ({"kind": "instruction"}, {"instruction": "a", "output": "b", "category": "c"}, "category"),
        ({"kind": "instruction"}, {"messages": [{"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"}], "id": "1", "system": "s"}, "id"),
    ],
)  # fmt: skip
def test_columns_that_are_not_read_are_said_once(
    task: dict[str, Any],
    row: dict[str, Any],
    unread: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [row | ({"label": f"label {n % 2}"} if "label" in row else {}) for n in range(6)]
    path = write_splits(tmp_path, rows)
    with caplog.at_level(logging.INFO):
        for split in SPLITS:
            make_config(fields={"task": task | {"path": str(path)}}).task.examples(split)
    said = [message for message in caplog.messages if "columns not read" in message]
    assert said == ([] if unread is None else [f"{path}: columns not read: {unread}"])


EMPTY: dict[str, dict[str, Any]] = {
    "classification": {},
    "cloze": {"template": "{text} It is", "verbalizers": {"good": " good", "bad": " bad"}},
    "generation": {"template": "{text}", "completion": "{output}"},
    "summarization": {"template": "{text*}>", "summary": "{output}"},
    "language_modeling": {},
}


@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_text_is_used_and_said_by_every_kind_of_task(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"text": f"text {n}" if n else " ", "label": label, "output": str(n)}
        for n, label in enumerate(["good", "bad"] * 3)
    ]
    fields = {"kind": kind, "path": str(write_splits(tmp_path, rows))} | EMPTY[kind]
    assert len(make_config(fields={"task": fields}).task.examples("test")) == 6
    assert caplog.messages == [
        "test: 1 of 6 rows have an empty text in column 'text' and are used so: test.jsonl:1"
    ]


def test_every_word_is_said_once_however_many_runs_read_the_rows(
    model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"text {n % 4}", "label": ["good", "bad"][n % 2]} for n in range(8)]
    config = make_config(
        fields={
            "model": str(model_folder),
            "task": {"kind": "classification", "path": str(write_splits(tmp_path, rows))},
        }
    )
    shared = Shared()
    with caplog.at_level(logging.WARNING):
        prepare(config, None, choose_device(), shared, SPLITS[:2])
        prepare(config, None, choose_device(), shared, SPLITS)
    said = [message.partition(";")[0] for message in caplog.messages]
    assert said == [
        "train: 4 of 8 rows are copies of others: train.jsonl:5 of train.jsonl:1",
        "validation: 4 of 8 rows are copies of others: validation.jsonl:5 of validation.jsonl:1",
        "validation: 8 of 8 rows are trained on too",
        "test: 4 of 8 rows are copies of others: test.jsonl:5 of test.jsonl:1",
        "test: 8 of 8 rows are trained on too",
    ]
