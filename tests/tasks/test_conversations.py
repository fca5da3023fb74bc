"""Laws of conversations: every format and every command reads the same, and what is cut is old."""

import copy
import dataclasses
from itertools import pairwise

import pytest
from chats import TASK, Values, row
from hypothesis import given
from hypothesis import strategies as st
from tiny import bpe_backend
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from tunewise.data.encode import encode_answered, encode_prompts
from tunewise.data.example import Example, MarkedText
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import Tokenizer
from tunewise.tasks import Generation, Instruction
from tunewise.tasks.chat import Turn

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SAID = TEXT.filter(str.strip)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=6)
"""Questions and their answers."""


def chat(system: str | None, pairs: list[tuple[str, str]], question: str) -> list[Values]:
    """Return a conversation that ends with a question, in OpenAI's format."""
    turns = [("system", system)] if system is not None else []
    for asked, answered in pairs:
        turns += [("user", asked), ("assistant", answered)]
    return [{"role": role, "content": text} for role, text in [*turns, ("user", question)]]


def forms_of(
    system: str | None, pairs: list[tuple[str, str]], question: str, answer: str
) -> list[Values]:
    """Return one conversation as rows in every format that can hold it."""
    asked = chat(system, pairs, question)
    learnt = [{"role": "assistant", "content": answer}]
    whole = [*asked, *learnt]
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    told = [{"from": names[turn["role"]], "value": turn["content"]} for turn in whole]
    forms: list[Values] = [
        {"messages": whole},
        {"messages": [{**turn, "weight": None, "name": None} for turn in whole], "prompt": None},
        {"messages": [{**t, "content": [{"type": "text", "text": t["content"]}]} for t in whole]},
        {"messages": [*whole, {"role": "assistant", "content": "no", "weight": 0}]},
        {"conversations": told},
        {"conversations": [t for t in told if t["from"] != "system"], "system": system},
        {"prompt": asked, "completion": learnt},
    ]
    if system or pairs:
        history = [list(pair) for pair in pairs]
        forms.append(
            {"instruction": question, "output": answer, "history": history, "system": system}
        )
    return forms


@given(st.none() | SAID, PAIRS, TEXT, TEXT)
def test_a_conversation_is_the_same_in_every_format(
    system: str | None, pairs: list[tuple[str, str]], question: str, answer: str
) -> None:
    first, *others = [TASK.example(row(v)) for v in forms_of(system, pairs, question, answer)]
    assert first.target == answer
    assert all(other == first for other in others)
    asked = TASK.prompt_of(row({"messages": chat(system, pairs, question)}))
    assert dataclasses.replace(first, target="", literals=asked.literals) == asked


# What is cut.


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A byte-level tokenizer, in which byte pairs meet across turns."""
    backend = bpe_backend(280, ["the film is not good at all, U|A|U|A"])
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in SPECIAL])
    return Tokenizer(backend, SPECIAL[0])


BEGIN = "<|begin|>"
SPECIAL = ["<|im_end|>", "<|im_start|>", "<|eot|>", BEGIN]
CHATML = Instruction(
    turns={
        "system": "<|im_start|>system\n{content}<|im_end|>\n",
        "user": "<|im_start|>user\n{content}<|im_end|>\n",
        "assistant": "<|im_start|>assistant\n{content}<|im_end|>\n",
    }
)
FORMS = st.sampled_from([TASK, CHATML])
VIRTUAL = (900, 901)


def ids_of(tokenizer: Tokenizer, example: Example) -> list[int]:
    texts = tokenizer.tokenize([example.marked_prompt, example.marked_cue])
    return [*texts[0], *texts[1]]


@given(FORMS, st.none() | SAID, PAIRS, SAID, st.integers(2, 200))
def test_of_a_long_conversation_as_few_of_the_oldest_exchanges_go_as_can(
    tokenizer: Tokenizer,
    task: Instruction,
    system: str | None,
    pairs: list[tuple[str, str]],
    question: str,
    max_length: int,
) -> None:
    def asked(first: int) -> Example:
        return task.prompt_of(row({"messages": chat(system, pairs[first:], question)}))

    layout = Layout(max_length + len(VIRTUAL), VIRTUAL)
    prompts = encode_prompts([asked(0)], tokenizer, layout)
    ids = prompts.ids[0].tolist()[len(VIRTUAL) :]
    wholes = [ids_of(tokenizer, asked(first)) for first in range(len(pairs) + 1)]
    assert 0 < len(ids) <= max_length
    assert prompts.cut == [len(wholes[0]) - len(ids)]
    assert prompts.num_shortened == (len(wholes[0]) > max_length and len(pairs) > 0)
    if len(wholes[0]) <= max_length:
        assert ids == wholes[0]
    elif len(wholes[-1]) <= max_length:
        # Any count of exchanges that fits while one more does not; nearly always there is one.
        assert ids in [after for before, after in pairwise(wholes) if len(before) > max_length]
    else:
        last = wholes[-1]
        assert len(ids) == max_length
        closing = len(tokenizer.tokenize([asked(len(pairs)).marked_cue])[0])
        assert ids[-min(closing, max_length) :] == last[len(last) - min(closing, max_length) :]


@given(FORMS, SAID, SAID, st.integers(20, 200))
def test_a_question_that_is_too_long_loses_its_beginning_and_the_system_text_keeps_half(
    tokenizer: Tokenizer, task: Instruction, system: str, question: str, max_length: int
) -> None:
    system, question = system * 9, question * 20
    example = task.prompt_of(row({"messages": chat(system, [], question)}))
    (ids,) = encode_prompts([example], tokenizer, Layout(max_length)).ids
    whole = ids_of(tokenizer, example)
    if len(whole) <= max_length:
        return
    assert example.cut_from is not None
    prompt, cut_from = example.marked_prompt, example.cut_from
    before, rest, cue = tokenizer.tokenize(
        [prompt.part(0, cut_from), prompt.part(cut_from), example.marked_cue]
    )
    room = max_length - len(cue)
    num_before = min(len(before), max(room // 2, room - len(rest)))
    expected = [*before[:num_before], *rest[len(rest) - (room - num_before) :], *cue]
    assert ids.tolist() == expected
    assert num_before == len(before) or num_before >= room // 2


@given(SAID, PAIRS, SAID, SAID, st.integers(8, 200))
def test_training_leaves_out_what_answering_leaves_out(
    tokenizer: Tokenizer,
    system: str,
    pairs: list[tuple[str, str]],
    question: str,
    answer: str,
    max_length: int,
) -> None:
    answered = {"role": "assistant", "content": answer}
    asked = chat(system, pairs, question)
    layout = Layout(max_length)
    learnt = TASK.example(row({"messages": [*asked, answered]}))
    encoded = encode_answered([learnt], tokenizer, layout)
    (sequence,) = encoded.sequences
    num_target = len(tokenizer.tokenize([answer])[0]) + 1
    (prompt,) = encode_prompts(
        [TASK.prompt_of(row({"messages": asked}))], tokenizer, layout, num_target
    ).ids
    assert sequence.ids[: sequence.prompt_length].tolist() == prompt.tolist()
    assert len(sequence.ids) <= max_length
    num_whole = len(ids_of(tokenizer, learnt)) + num_target
    assert encoded.num_tokens_cut == num_whole - len(sequence.ids)
    assert encoded.num_truncated == (encoded.num_tokens_cut > 0)
    assert encoded.num_shortened <= encoded.num_truncated


def test_system_texts_amid_a_conversation_stay_when_the_turns_around_them_go(
    tokenizer: Tokenizer,
) -> None:
    turns = [Turn("user", "old " * 30), Turn("system", "rule"), Turn("assistant", "old " * 30)]
    example = TASK.ask([*turns, Turn("user", "new")], row({}))
    (ids,) = encode_prompts([example], tokenizer, Layout(40)).ids
    assert tokenizer.decode(ids.tolist()) == "Srule|Unew|A"


# What is continued.


@given(SAID, SAID, st.integers(2, 40), st.booleans())
def test_a_prompt_that_is_continued_keeps_its_end(
    tokenizer: Tokenizer, text: str, completion: str, room: int, begins: bool
) -> None:
    text = text * 10
    beginning = copy.copy(tokenizer)
    beginning.begin = tuple(tokenizer.tokenize([MarkedText.literal(BEGIN)])[0]) if begins else ()
    values = {"prompt": text, "completion": completion}
    of_lines = Generation(text="text", given_lines=1)
    for example in (
        TASK.example(row(values)),
        Generation().example(row(values)),
        of_lines.prompt_of(row({"text": text.replace("\n", " ") + "\nmore"})),
    ):
        (ids,) = encode_prompts([example], beginning, Layout(room)).ids
        (whole,) = tokenizer.tokenize([example.prompt])
        kept = max(0, min(len(whole), room - len(beginning.begin)))
        assert ids.tolist() == [*beginning.begin, *whole[len(whole) - kept :]]


def test_a_text_before_a_cue_loses_its_end(tokenizer: Tokenizer) -> None:
    task = Generation(template="{text}\nTL;DR:")
    example = task.prompt_of(row({"text": "first " * 20 + "last"}))
    (ids,) = encode_prompts([example], tokenizer, Layout(30)).ids
    text = tokenizer.decode(ids.tolist())
    assert text.startswith("first first") and text.endswith("\nTL;DR:")


# The same as transformers.

LLAMA = Instruction(
    turns={
        role: f"<|im_start|>{role}<|im_end|>\n\n{{content}}<|eot|>"
        for role in ("system", "user", "assistant")
    }
)
JINJA = {
    "chatml": (
        CHATML,
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
    "llama": (
        LLAMA,
        "{% for m in messages %}<|im_start|>{{ m.role }}<|im_end|>\n\n{{ m.content }}<|eot|>"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant<|im_end|>\n\n{% endif %}",
    ),
}


@pytest.mark.parametrize("form", JINJA)
@pytest.mark.parametrize("system", [None, " Be brief.\n"])
def test_turns_are_what_transformers_makes_of_the_same_template(
    tokenizer: Tokenizer, form: str, system: str | None
) -> None:
    task, template = JINJA[form]
    reference = PreTrainedTokenizerFast(tokenizer_object=tokenizer._backend)
    for pairs in ([], [("the film?", "good"), ("", " é\n")]):
        turns = chat(system, pairs, " why\n")
        asked = task.prompt_of(row({"messages": turns}))
        text = reference.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        assert asked.prompt + asked.cue == text
        ids = tokenizer.tokenize([MarkedText.literal(text)])[0]
        assert encode_prompts([asked], tokenizer, Layout(900)).ids[0].tolist() == ids
