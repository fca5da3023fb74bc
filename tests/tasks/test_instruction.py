"""Instructions in whatever shape: what is given, what is the response, and rows that have none."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tiny import write_splits

from tunewise.config import make_config
from tunewise.data.example import Example
from tunewise.errors import ConfigError, DataError
from tunewise.tasks.instruction import Instruction

Values = dict[str, Any]

ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
TURNS = [
    ("system", "Be brief."),
    ("user", "Hi."),
    ("assistant", "Hello."),
    ("user", "1 + 2?"),
    ("assistant", "3"),
]
MESSAGES = {"messages": [{"role": role, "content": text} for role, text in TURNS]}
SHAREGPT = {
    "conversations": [
        {"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text}
        for role, text in TURNS
    ]
}


def folder(path: Path, *rows: Values) -> Path:
    return write_splits(path, rows)


def example(path: Path, row: Values, **settings: Any) -> Example:
    (only,) = Instruction(path=folder(path, row), **settings).examples("train")
    return only


def message(path: Path, *rows: Values, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        Instruction(path=folder(path, *rows), **settings).examples("train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The shapes.


def test_an_instruction_with_an_input_is_put_in_alpacas_words(tmp_path: Path) -> None:
    found = example(tmp_path, ALPACA)
    assert found.prompt + found.cue == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n"
    )
    assert found.cue == "\n\n### Response:\n"
    assert found.target == "3"


@pytest.mark.parametrize("row", [{"input": ""}, {"input": None}, {}])
def test_an_instruction_without_an_input_has_words_of_its_own(tmp_path: Path, row: Values) -> None:
    found = example(tmp_path, {"instruction": "Add 1 and 2.", "output": "3", **row})
    assert found.prompt + found.cue == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd 1 and 2.\n\n### Response:\n"
    )
    assert found.cue == "\n\n### Response:\n"


def test_the_columns_of_an_instruction_can_have_any_name(tmp_path: Path) -> None:
    row = {"task": "Add.", "given": "1 and 2", "wanted": "3", "instructions": "x"}
    names = {"instruction": "task", "input": "given", "output": "wanted"}
    found = example(tmp_path, row, **names)
    assert (found.prompt, found.cue, found.target) == (
        *(example(tmp_path, ALPACA).prompt, example(tmp_path, ALPACA).cue),
        "3",
    )


def test_the_words_can_be_ones_own(tmp_path: Path) -> None:
    words = {"with_input": "{instruction} ({input}) =", "without_input": "{instruction} ="}
    found = example(tmp_path, ALPACA, **words)
    assert (found.prompt, found.cue) == ("Add. (1 and 2", ") =")


def test_a_prompt_and_its_completion_are_taken_as_they_are(tmp_path: Path) -> None:
    found = example(tmp_path, {"prompt": "1 + 2 =", "completion": " 3"})
    assert (found.prompt, found.cue, found.target) == ("1 + 2 =", "", " 3")


@pytest.mark.parametrize("row", [MESSAGES, SHAREGPT], ids=["messages", "conversations"])
def test_the_last_turn_of_a_conversation_is_the_response_to_all_before_it(
    tmp_path: Path, row: Values
) -> None:
    found = example(tmp_path, row)
    assert found.prompt == (
        "Be brief.\n\n### Instruction:\nHi.\n\n### Response:\nHello.\n\n"
        "### Instruction:\n1 + 2?\n\n"
    )
    assert (found.cue, found.target) == ("### Response:\n", "3")


def test_turns_can_be_written_in_other_words_and_braces_in_them_stay(tmp_path: Path) -> None:
    turns = {"system": "{content}\n", "user": "U: {content}\n", "assistant": "A: {content}\n"}
    row = {
        "messages": [
            {"role": "user", "content": "{content} {0}"},
            {"role": "assistant", "content": "{}"},
        ]
    }
    found = example(tmp_path, row, turns=turns)
    assert (found.prompt, found.cue, found.target) == ("U: {content} {0}\n", "A: ", "{}")


def test_all_shapes_are_read_in_lower_case_if_asked(tmp_path: Path) -> None:
    for row in (ALPACA, MESSAGES, SHAREGPT, {"prompt": "ADD", "completion": " THREE"}):
        found = example(tmp_path, json.loads(json.dumps(row)), lowercase=True)
        given = "".join(found.prompt.split("### Instruction:")[1:]) or found.prompt
        assert not any(word in given for word in ("Add", "Hi", "ADD"))
        assert found.target == found.target.lower()


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (ALPACA, "instructions"),
        (MESSAGES, "messages"),
        (SHAREGPT, "messages"),
        ({"prompt": "1 + 2 =", "completion": " 3"}, "prompt and completion"),
    ],
)
def test_the_shape_of_ones_own_rows_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: Values, shape: str
) -> None:
    caplog.set_level(logging.INFO, "tunewise")
    example(tmp_path, row)
    assert f"{tmp_path}: read as {shape}" in caplog.text


# Rows that cannot be used.


def test_rows_without_an_answer_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [ALPACA, ALPACA | {"output": ""}, ALPACA | {"output": " \n"}]
    examples = Instruction(path=folder(tmp_path, *rows)).examples("test")
    assert [example.id for example in examples] == ["test.jsonl:1"]
    assert "test: 2 rows with no answer are dropped" in caplog.text


def test_rows_with_too_long_an_answer_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [ALPACA | {"output": "x" * length} for length in (9, 10, 11, 12)]
    task = Instruction(path=folder(tmp_path, *rows), max_answer=10)
    assert [len(example.target) for example in task.examples("train")] == [9, 10]
    assert "train: 2 rows with answers of over 10 characters are dropped" in caplog.text


def test_nothing_is_said_where_nothing_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Instruction(path=folder(tmp_path, ALPACA)).examples("test")
    assert caplog.text == ""


def test_as_many_samples_are_left_as_asked_for_when_others_are_dropped(tmp_path: Path) -> None:
    rows = [ALPACA | {"output": "x" * (1 + n % 2 * 20)} for n in range(20)]
    task = Instruction(path=folder(tmp_path, *rows), max_answer=10, samples=10)
    assert len(task.examples("train")) == 10


def test_a_split_without_any_answer_is_named(tmp_path: Path) -> None:
    assert "no row of the train split has a usable answer" in message(
        tmp_path, ALPACA | {"output": ""}
    )


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"question": "1 + 2?", "answer": "3"}, "has the columns question, answer; needed are"),
        ({"prompt": "1 + 2?"}, "no column 'completion'; the row has: prompt"),
        ({"instruction": "Add."}, "no column 'output'; the row has: instruction"),
        (ALPACA | {"instruction": 3}, "column 'instruction' holds 3; text is needed"),
        (ALPACA | {"input": ["1", "2"]}, "column 'input' holds ['1', '2']; text is needed"),
        ({"prompt": "a", "completion": 3}, "column 'completion' holds 3"),
        ({"messages": "Hi."}, "column 'messages' holds 'Hi.'; a list is needed"),
        ({"conversations": {}}, "column 'conversations' holds {}; a list is needed"),
        ({"messages": ["Hi.", "Hello."]}, "'Hi.' is not a message"),
        ({"messages": [{"role": "tool", "content": "3"}]}, "is not a message with a role"),
        ({"messages": [{"content": "3"}]}, "is not a message with a role"),
        ({"messages": [{"role": "user", "content": ["3"]}]}, "text as its content"),
        ({"messages": [{"role": "user", "content": None}]}, "text as its content"),
        ({"messages": []}, "the last of several messages must be the assistant's"),
        ({"messages": MESSAGES["messages"][:2]}, "must be the assistant's"),
        ({"messages": MESSAGES["messages"][2:3]}, "the last of several messages"),
        (
            {"messages": [{"role": "user", "content": "half \ud83c"}, MESSAGES["messages"][2]]},
            "half a character",
        ),
        (ALPACA | {"output": "half \ud83c"}, "half a character"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, row: Values, named: str) -> None:
    found = message(tmp_path, row)
    assert "train.jsonl:1: " in found
    assert named in found


def test_a_row_of_another_shape_than_the_first_is_read_by_its_own_columns(tmp_path: Path) -> None:
    rows = (ALPACA, MESSAGES, {"prompt": "1 + 2 =", "completion": "3"})
    examples = Instruction(path=folder(tmp_path, *rows)).examples("train")
    assert [example.target for example in examples] == ["3", "3", "3"]
    assert "train.jsonl:2" in message(tmp_path, ALPACA, {"question": "1 + 2?"})


@pytest.mark.parametrize(
    ("turns", "named"),
    [
        ({"user": "U: {content}"}, "turns: system needs a template with {content} once"),
        ({"system": "", "user": "{content}", "assistant": "{content}"}, "turns: system"),
        (
            {"system": "{content}", "user": "{content}", "assistant": "{content}{content}"},
            "turns: assistant",
        ),
    ],
)
def test_turns_without_their_content_are_a_mistake(turns: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(fields={"task": {"kind": "instruction", "path": "a.json", "turns": turns}})
    assert named in str(caught.value)
