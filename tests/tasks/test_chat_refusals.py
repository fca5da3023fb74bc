"""Rows that cannot be learnt: each is refused, and the message is true."""

import pytest
from chats import TASK, Values, messages, parts, row, sharegpt
from hypothesis import given
from hypothesis import strategies as st

from tunewise.errors import DataError
from tunewise.tasks import Instruction


def refused(values: Values, task: Instruction = TASK) -> str:
    with pytest.raises(DataError) as caught:
        task.example(row(values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


IMAGE = [*parts("a"), {"type": "image_url", "image_url": {"url": "x"}}]
CALL = [*messages("ua"), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
TOOLS = "conversations with tools are not supported"
REFUSED: dict[str, tuple[Values, str]] = {
    "dolly": (
        {"instruction": "a", "context": "c", "response": "b"},
        "no column 'output'; the row has: instruction, context, response; or set "
        "task.input=context task.output=response",
    ),
    "capital letters": (
        {"Instruction": "a", "Output": "b"},
        "; or set task.instruction=Instruction task.output=Output",
    ),
    "a question and its context": (
        {"question": "a", "context": "c", "answer": "b"},
        "; or set task.instruction=question task.input=context task.output=answer",
    ),
    "messages as text": (
        {"messages": '[{"role": "user", "content": "a"}]'},
        "; a list is needed, not its text: parse it, and write JSON lines",
    ),
    "another name of content": (
        {"messages": [{"role": "user", "text": "a"}]},
        "message 1 of 'messages' has no 'content'; its fields: role, text",
    ),
    "no object": ({"messages": ["a"]}, "message 1 of 'messages' is 'a'; an object with a role"),
    "no role": (
        {"messages": [{"content": "a"}]},
        "message 1 of 'messages' has no role; known: sys",
    ),
    "a role": (
        {"conversations": sharegpt(("humann", "a"))},
        "message 1 of 'conversations' has the role 'humann'; did you mean 'human'?",
    ),
    "two roles": (
        {"messages": messages("ua", **{"from": "gpt"})},
        "'role' and 'from', which differ",
    ),
    "no content": ({"messages": messages("ua", content=None)}, "holds None as its content; text"),
    "a number": ({"messages": messages("ua", content=3)}, "holds 3 as its content; text is needed"),
    "an image": (
        {"messages": messages("ua", content=IMAGE)},
        "has a part of type 'image_url'; only",
    ),
    "no part": (
        {"messages": messages("ua", content=["a"])},
        "has the part 'a'; only parts of type",
    ),
    "tool call": (
        {"messages": CALL},
        f"message 2 of 'messages' has the field 'tool_calls'; {TOOLS}",
    ),
    "tool": ({"conversations": sharegpt(("observation", "a"))}, f"role 'observation'; {TOOLS}"),
    "tools": (
        {"messages": messages("ua", "ab"), "tools": [{"type": "f"}]},
        f"column 'tools': {TOOLS}",
    ),
    "json tools": (
        {"instruction": "a", "output": "b", "tools": '[{"name": "f"}]'},
        f"column 'tools': {TOOLS}",
    ),
    "weight": (
        {"messages": messages("ua", "ab", weight=0.5)},
        "message 2 of 'messages' has the weight 0.5",
    ),
    "weights 0": (
        {"messages": messages("ua", "ab", weight=0)},
        "each message of the assistant has weight 0",
    ),
    "no list": (
        {"prompt": messages("ua"), "completion": "b"},
        "column 'completion' holds 'b'; a list",
    ),
    "a lone response": ({"messages": messages("aa")}, "no message comes before the assistant's"),
    "no response": ({"messages": messages("sx", "ua")}, "no message is the assistant's, so there"),
    "a last question": (
        {"messages": messages("ua", "ab", "uc")},
        "the last message is the user's and has",
    ),
    "a last rule": (
        {"messages": messages("ua", "ab", "sx")},
        "the last message is the system's and has",
    ),
    "system texts": (
        {"system": "x", "messages": messages("sy", "ua", "ab")},
        "several system texts, which",
    ),
    "system number": (
        {"system": 3, "messages": messages("ua", "ab")},
        "column 'system' holds 3; text is",
    ),
    "system and prompt": (
        {"system": "x", "prompt": "a", "completion": "b"},
        "a system text beside a prompt",
    ),
    "history and prompt": (
        {"history": [["a", "b"]], "prompt": "a", "completion": "b"},
        "a history beside a prompt; write both as 'messages'",
    ),
    "history": (
        {"instruction": "a", "output": "b", "history": [["a"]]},
        "column 'history' holds ['a']; a list",
    ),
    "history text": (
        {"instruction": "a", "output": "b", "history": "x"},
        "column 'history' holds 'x'; a list",
    ),
    "input 0": (
        {"instruction": "a", "input": 0, "output": "b"},
        "column 'input' holds 0; text is needed",
    ),
    "input false": (
        {"instruction": "a", "input": False, "output": "b"},
        "column 'input' holds False",
    ),
    "preference": (
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        "a preference ('chosen' and 'rejected')",
    ),
    "bare preference": (
        {"chosen": messages("ua", "ab"), "rejected": []},
        "a preference ('chosen' and",
    ),
    "rating": (
        {"prompt": "a", "completion": "b", "label": False},
        "a preference ('label' is true or false)",
    ),
    "question": (
        {"question": "a", "answer": "b"},
        "; or set task.instruction=question task.output=answer",
    ),
    "query": (
        {"id": 1, "query": "a", "response": "b"},
        "task.instruction=query task.output=response",
    ),
    "output": (
        {"instruction": "a", "response": "b"},
        "the row has: instruction, response; or set task.output=response",
    ),
    "prompt": ({"prompt": "a", "response": "b"}, "task.instruction=prompt task.output=response"),
    "dialogue": (
        {"dialogue": messages("ua", "ab")},
        "; if 'dialogue' holds messages, name it 'messages'",
    ),
}


@pytest.mark.parametrize(("values", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_learnt_is_refused_and_told_why(values: Values, said: str) -> None:
    found = refused(values)
    assert found.startswith("data/train.jsonl:7: ")
    assert said in found


def test_a_response_of_weight_0_is_refused_where_everything_is_learnt() -> None:
    values = {"messages": messages("ua") + messages("ab", weight=0) + messages("uc", "ad")}
    everything = TASK.model_copy(update={"loss_on": "everything"})
    assert "task.loss_on=everything learns it" in refused(values, everything)
    assert everything.example(row({"messages": messages("ua", "ab", "uc", "ad")})).target == "d"


FIELDS = ["role", "from", "content", "value", "weight", "type", "text", "tool_calls", "name"]
COLUMNS = ["messages", "conversations", "prompt", "completion", "instruction", "input", "output"]
COLUMNS += ["system", "history", "tools", "label", "chosen", "rejected"]
LEAVES = [None, True, 0, 1, 0.5, float("nan"), "", "user", "assistant", "system", "text", "tool"]
JSON = st.recursive(
    st.sampled_from([*LEAVES, "\x1b[2J\n", "half \ud83c"]),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inside, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(COLUMNS), JSON, max_size=5))
def test_any_row_is_read_or_refused_in_one_printable_line(values: Values) -> None:
    for read in (TASK.example, TASK.prompt_of):
        try:
            read(row(values))
        except DataError as error:
            assert str(error).startswith("data/train.jsonl:7: ")
            assert str(error).isprintable()
