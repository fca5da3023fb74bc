"""Rows of all known formats: what is asked, what is learnt, what is refused, what is named."""

import logging

import pytest
from chats import TASK, Values, messages, parts, row, sharegpt

from tunewise.data.say_once import say_once
from tunewise.errors import DataError
from tunewise.tasks import Instruction


@pytest.fixture(autouse=True)
def nothing_named_yet() -> None:
    say_once.cache_clear()


def asked(values: Values) -> str:
    prompt = TASK.prompt_of(row(values))
    return prompt.prompt + prompt.cue


def refused(values: Values, task: Instruction = TASK) -> str:
    with pytest.raises(DataError) as caught:
        task.example(row(values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


LEARNT: dict[str, tuple[Values, str, str]] = {
    "openai": ({"messages": messages("sx", "ua", "ab", "uc", "ad")}, "Sx|Ua|Ab|Uc|A", "d"),
    "developer": ({"messages": messages("dx", "ua", "ab")}, "Sx|Ua|A", "b"),
    "sharegpt": ({"conversations": sharegpt(("human", "a"), ("gpt", "b"))}, "Ua|A", "b"),
    "chatgpt": ({"conversations": sharegpt(("USER", "a"), ("ChatGPT", "b"))}, "Ua|A", "b"),
    "bing": ({"conversations": sharegpt(("user", "a"), ("bing", "b"))}, "Ua|A", "b"),
    "bard": ({"messages": sharegpt(("user", "a"), ("bard", "b"))}, "Ua|A", "b"),
    "model": ({"conversations": messages("ua", "ab", role="model")}, "Ua|A", "b"),
    "system column": (
        {"system": "x", "conversations": sharegpt(("human", "a"), ("gpt", "b"))},
        "Sx|Ua|A",
        "b",
    ),
    "system column of Anthropic": (
        {"system": "x", "messages": messages("ua", "ab")},
        "Sx|Ua|A",
        "b",
    ),
    "empty system column": ({"system": " ", "messages": messages("ua", "ab")}, "Ua|A", "b"),
    "system text twice": ({"system": "x", "messages": messages("sx", "ua", "ab")}, "Sx|Ua|A", "b"),
    "system in an instruction": (
        {"instruction": "a", "output": "b", "system": "x"},
        "Sx|Ua|A",
        "b",
    ),
    "system_prompt": ({"system_prompt": "x", "instruction": "a", "output": "b"}, "Sx|Ua|A", "b"),
    "history": (
        {"instruction": "c", "input": "d", "output": "e", "history": [["a", "b"]], "system": "x"},
        "Sx|Ua|Ab|Uc\nd|A",
        "e",
    ),
    "no history": ({"instruction": "a", "output": "b", "history": [], "system": ""}, "Ia>", "b"),
    "null history": ({"instruction": "a", "output": "b", "history": None}, "Ia>", "b"),
    "blank input": ({"instruction": "a", "input": " \n", "output": "b"}, "Ia>", "b"),
    "input": ({"instruction": "a", "input": "0", "output": "b"}, "Ia+0>", "b"),
    "text parts": (
        {
            "messages": [
                {"role": "user", "content": parts("a", "b")},
                {"role": "assistant", "content": parts("c")},
            ]
        },
        "Uab|A",
        "c",
    ),
    "weight 0 at the end": (
        {"messages": messages("ua", "ab", "uc") + messages("ad", weight=0)},
        "Ua|A",
        "b",
    ),
    "weight 0 before": (
        {"messages": messages("ua") + messages("ab", weight=0) + messages("uc", "ad", weight=1)},
        "Ua|Ab|Uc|A",
        "d",
    ),
    "weight of a float column": ({"messages": messages("ua", "ab", weight=1.0)}, "Ua|A", "b"),
    "null fields of Parquet": (
        {
            "messages": [
                {"role": role, "content": text, "name": None, "tool_calls": None, "weight": None}
                for role, text in (("user", "a"), ("assistant", "b"))
            ],
            "tools": None,
            "system": None,
        },
        "Ua|A",
        "b",
    ),
    "null columns": ({"messages": None, "prompt": "a", "completion": "b"}, "a", "b"),
    "null instruction": ({"instruction": None, "messages": messages("ua", "ab")}, "Ua|A", "b"),
    "trl": ({"prompt": messages("sx", "ua"), "completion": messages("ab")}, "Sx|Ua|A", "b"),
    "questions in a row": ({"messages": messages("ua", "ub", "ac")}, "Ua|Ub|A", "c"),
    "answers in a row": ({"messages": messages("ua", "ab", "ac")}, "Ua|Ab|A", "c"),
    "the assistant first": ({"messages": messages("aa", "ub", "ac")}, "Aa|Ub|A", "c"),
    "a system text alone": ({"messages": messages("sx", "ab")}, "Sx|A", "b"),
    "tools that are none": ({"messages": messages("ua", "ab"), "tools": "[]"}, "Ua|A", "b"),
}


@pytest.mark.parametrize(("values", "prompt", "response"), LEARNT.values(), ids=LEARNT.keys())
def test_a_row_of_any_known_format_is_read_whole(
    values: Values, prompt: str, response: str, caplog: pytest.LogCaptureFixture
) -> None:
    example = TASK.example(row(values))
    assert (example.prompt + example.cue, example.target) == (prompt, response)
    assert asked(values) == prompt  # a row is asked what it is trained with
    assert caplog.text == ""


def test_a_row_to_answer_may_end_with_the_question_or_with_weight_0() -> None:
    assert asked({"messages": messages("ua", "ab", "uc")}) == "Ua|Ab|Uc|A"
    assert asked({"messages": messages("ua", "ab", weight=0)}) == "Ua|A"
    assert asked({"prompt": messages("ua")}) == "Ua|A"
    assert asked({"prompt": "a", "chosen": "b", "rejected": "c"}) == "a"
    assert asked({"instruction": "c", "history": [["a", "b"]]}) == "Ua|Ab|Uc|A"


UNREAD: dict[str, tuple[Values, str]] = {
    "name": (
        {"messages": messages("ua", "ab", name="Ann")},
        "the field 'name' of messages is not read",
    ),
    "thoughts": (
        {"messages": messages("ua", "ab", thinking="x")},
        "the field 'thinking' of messages",
    ),
    "a part's": (
        {
            "messages": messages(
                "ua", "ab", content=[{"type": "text", "text": "b", "cache": {"a": 1}}]
            )
        },
        "the field 'cache' of messages",
    ),
    "prompt": (
        {"messages": messages("ua", "ab"), "prompt": "a"},
        "column 'prompt' is not read: rows are read as messages",
    ),
    "chats": (
        {"messages": messages("ua", "ab"), "conversations": sharegpt(("human", "x"))},
        "column 'conversations' is not read: rows are read as messages",
    ),
    "instruction": (
        {"instruction": "a", "output": "b", "messages": messages("ux", "ay")},
        "column 'messages' is not read: rows are read as instructions",
    ),
    "dolly": (
        {"instruction": "a", "context": "c", "output": "b"},
        "column 'context' is not read: rows are read as instructions; if it is the input, set "
        "task.input=context",
    ),
    "a capital letter": (
        {"instruction": "a", "Input": "c", "output": "b"},
        "column 'Input' is not read: rows are read as instructions; if it is the input, set",
    ),
    "a context of a prompt": (
        {"prompt": "a", "context": "c", "completion": "b"},
        "column 'context' is not read: rows are read as prompt and completion",
    ),
    "images": ({"messages": messages("ua", "ab"), "images": ["a.png"]}, "'images' is not read"),
    "ultrafeedback": (
        {"messages": messages("ua", "ab"), "chosen": "b", "rejected": "c"},
        "'rejected' is not",
    ),
}


@pytest.mark.parametrize(("values", "said"), UNREAD.values(), ids=UNREAD.keys())
def test_what_is_not_read_is_named_once_for_a_file(
    values: Values, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tunewise")
    for _ in range(3):
        TASK.example(row(values))
        TASK.prompt_of(row(values))
    assert said in caplog.text
    assert caplog.text.count(said) == 1
    assert "data/train.jsonl: " in caplog.text


def test_the_input_column_may_be_the_instruction() -> None:
    task = TASK.model_copy(update={"instruction": "input"})
    assert task.example(row({"input": "a", "output": "b"})).prompt == "Ia"
