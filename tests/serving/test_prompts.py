"""A served chat is turned into the same prompt as in the training of its run."""

from typing import Any, cast

import pytest
from chats import TASK, Values, messages, parts, row
from hypothesis import given
from hypothesis import strategies as st

from tunewise.config import make_config
from tunewise.data.encode import encode_prompts
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import DataError
from tunewise.predict import Predictor
from tunewise.tasks import Instruction
from tunewise.tasks.conversation import read_conversation

ROUTE = "/v1/chat/completions"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXT), max_size=8)


def predictor(task: Instruction, tokenizer: Tokenizer) -> Predictor:
    """Return a predictor whose model is not needed for its prompts."""
    config = make_config(fields={"task": {"kind": "instruction", "path": "x"}, "model": "pocket"})
    config = config.model_copy(update={"task": task})
    return Predictor(config, cast(Any, None), tokenizer, Layout(10_000, (900,)))


@given(TURNS, TEXT, TEXT)
def test_training_predicting_and_serving_give_the_model_the_same(
    tokenizer: Tokenizer, turns: list[tuple[str, str]], question: str, answer: str
) -> None:
    asked = [{"role": role, "content": text} for role, text in [*turns, ("user", question)]]
    learnt = TASK.example(row({"messages": [*asked, {"role": "assistant", "content": answer}]}))
    task = TASK.resolve([learnt])
    predicted = task.prompt_of(row({"messages": asked}))
    served = read_conversation(task, asked, ROUTE)
    of_training, of_predicting = encode_prompts(
        [learnt, predicted], tokenizer, Layout(10_000, (900,))
    ).ids
    of_serving = predictor(task, tokenizer).prompt_ids(served)
    assert of_training.tolist() == of_predicting.tolist() == of_serving.tolist()


@pytest.mark.parametrize(
    ("rows", "prompt"),
    [
        ([{"instruction": "a", "output": "b"}], "Iq>"),
        ([{"prompt": "a", "completion": "b"}], "q"),
        ([{"messages": messages("ua", "ab")}], "Uq|A"),
        ([{"messages": messages("sa", "ab")}], "Uq|A"),
        ([{"instruction": "a", "output": "b", "system": "s"}], "Uq|A"),
        ([{"messages": messages("ua", "ab")}] + [{"instruction": "a", "output": "b"}] * 2, "Iq>"),
    ],
)
def test_a_single_message_is_read_as_most_training_rows_are(
    rows: list[Values], prompt: str
) -> None:
    task = TASK.resolve([TASK.example(row(values)) for values in rows])
    served = read_conversation(task, messages("uq"), ROUTE)
    assert served.prompt + served.cue == prompt
    several = read_conversation(task, messages("ss", "uq"), ROUTE)
    assert several.prompt + several.cue == "Ss|Uq|A"


def test_a_run_of_an_earlier_version_reads_a_single_message_as_an_instruction() -> None:
    assert TASK.single_message is None
    assert read_conversation(TASK, messages("uq"), ROUTE).prompt == "Iq"


CALLS: Any = [{"id": "1", "type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("given_messages", "said"),
    [
        (messages("uq", "ab"), "the last message is the assistant's, so there is nothing to"),
        (messages("uq", role="root"), "message 1 of 'messages' has the role 'root'; known: system"),
        (messages("uq", role="tool"), "conversations with tools are not supported"),
        (
            [*messages("ua", "ab", tool_calls=CALLS), *messages("uc")],
            "with tools are not supported",
        ),
        (messages("uq", content=[*parts("a"), {"type": "image_url"}]), "part of type 'image_url'"),
        (messages("uq", thinking="a"), "message 1: 'thinking' is not supported"),
        (messages("uq", content=None), "holds None as its content"),
        ([3], "message 1 of 'messages' is 3; an object with a role and a content is needed"),
    ],
)
def test_a_message_that_cannot_be_read_is_refused(given_messages: list[Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_conversation(TASK, given_messages, ROUTE)
    assert str(caught.value).startswith(f"{ROUTE}: ")
    assert said in str(caught.value)


def test_what_openais_client_sends_back_of_an_answer_is_accepted() -> None:
    answer: dict[str, Any] = {"refusal": None, "annotations": [], "tool_calls": None, "audio": None}
    asked = [*messages("ua"), *messages("ab", **answer), *messages("uc", name="Ann")]
    assert read_conversation(TASK, asked, ROUTE).prompt == "Ua|Ab|Uc|"
