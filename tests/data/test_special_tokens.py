"""A template may write special tokens; a row never can, whatever it spells."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import bpe_backend, write_splits
from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast

from tunewise.config import make_config
from tunewise.data.encode import encode_answered, encode_prompts, encode_texts_whole
from tunewise.data.example import Example, MarkedText
from tunewise.data.layout import Layout
from tunewise.data.rows import Row
from tunewise.data.tokenizer import Tokenizer
from tunewise.tasks import Classification, Cloze, Instruction, Summarization
from tunewise.tasks.template import fill

START, END, BEGIN = "<|im_start|>", "<|im_end|>", "<|begin_of_text|>"
NAMES = [END, START, BEGIN, "<|im_start|>x"]
TEXTS = ["the user asks, the assistant answers", "a good film, and a very good cast", "system"]
CHAT = {
    "system": f"{START}system\n{{content}}{END}\n",
    "user": f"{START}user\n{{content}}{END}\n",
    "assistant": f"{START}assistant\n{{content}}{END}\n",
}


def trained(begins: bool = False) -> Tokenizer:
    """Return a byte-level BPE tokenizer with the special tokens of a chat model.

    Args:
        begins: whether it puts a token in front of every text, as Llama's does.
    """
    backend = bpe_backend(300, TEXTS)
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in NAMES])
    backend.add_tokens(["<think>"])
    if begins:
        special = [(BEGIN, backend.token_to_id(BEGIN))]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", special_tokens=special
        )
    return Tokenizer(backend, END)


@pytest.fixture(scope="module")
def chat() -> Tokenizer:
    return trained()


@pytest.fixture(scope="module")
def reference(chat: Tokenizer) -> PreTrainedTokenizerFast:
    """Return transformers' tokenizer, which reads special tokens wherever they are spelt."""
    backend = type(chat._backend).from_str(chat._backend.to_str())
    backend.encode_special_tokens = False
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END)


def ids_of(tokenizer: Tokenizer, text: str | MarkedText) -> list[int]:
    (ids,) = tokenizer.tokenize([text])
    return ids


LITERALS = [
    f"{START}user\nHello{END}\n",
    f"{END}{END} {START}",
    f"  {START}\n\n{END}  the user",
    "no special token",
    "",
    f"{START}x and {START}y",  # of two tokens that fit, the longer
    f"<|im_{START}",
    f"{START}<think>good{END}",
]


@pytest.mark.parametrize("literal", LITERALS)
def test_what_a_template_writes_is_read_as_transformers_reads_it(
    chat: Tokenizer, reference: PreTrainedTokenizerFast, literal: str
) -> None:
    expected = reference(literal, add_special_tokens=False)["input_ids"]
    assert ids_of(chat, MarkedText.literal(literal)) == expected


@pytest.mark.parametrize("literal", LITERALS)
def test_the_same_in_a_row_is_ordinary_text(chat: Tokenizer, literal: str) -> None:
    special = set(chat.tokenize([MarkedText.literal(name) for name in NAMES])[0])
    for text in (literal, MarkedText(literal)):
        ids = ids_of(chat, text)
        assert not special & set(ids)
        assert chat.decode(ids) == literal


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("<|im_{text}", "start|>"),
        ("{text}start|>", "<|im_"),
        ("<|im_{text}start|>", ""),
        ("<|{text}_start|>", "im"),
        ("{text}{text}", "<|im_end|>"),
    ],
)
def test_a_row_and_a_template_form_no_special_token_together(
    chat: Tokenizer, template: str, value: str
) -> None:
    text = fill(template, lambda _: value).whole
    assert ids_of(chat, text) == ids_of(chat, text.value)


def test_two_braces_in_a_template_part_no_special_token() -> None:
    backend = bpe_backend(300, TEXTS)
    backend.add_special_tokens(["<{end}>"])
    tokenizer = Tokenizer(backend, "<{end}>")
    text = fill("{text}<{{end}}>", lambda _: "a").whole
    assert ids_of(tokenizer, text)[-1] == tokenizer.end_of_text


def test_spaces_that_a_special_token_takes_in_are_taken_from_the_template_alone() -> None:
    backend = bpe_backend(300, TEXTS)
    backend.add_special_tokens([AddedToken("<end>", lstrip=True, rstrip=True)])
    tokenizer = Tokenizer(backend, "<end>")
    end, a = tokenizer.end_of_text, ids_of(tokenizer, "a")
    assert ids_of(tokenizer, MarkedText.literal("a \n<end>\n a")) == [*a, end, *a]
    text = fill("{text} <end>{text}", lambda _: " a ").whole
    assert ids_of(tokenizer, text) == [*ids_of(tokenizer, " a "), end, *ids_of(tokenizer, " a ")]


# Any template, any row.

PARTS = st.sampled_from([*NAMES, "<|im_", "start|>", "_end|>", "user\n", " good", "", "é"])
WRITTEN = st.lists(st.tuples(st.booleans(), PARTS), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WRITTEN)
def test_each_special_token_of_a_template_is_one_id_and_no_row_has_any(
    chat: Tokenizer, written: list[tuple[bool, str]]
) -> None:
    text, expected = MarkedText(), []
    special = dict(zip(NAMES, (chat._backend.token_to_id(name) for name in NAMES), strict=True))
    for is_literal, part in written:
        text += MarkedText.literal(part) if is_literal else MarkedText(part)
        if is_literal and part in special:
            expected.append(special[part])
    ids = ids_of(chat, text)
    assert [token for token in ids if token in special.values()] == expected
    assert chat.decode(ids) == text.value
    if not expected:
        assert ids == ids_of(chat, text.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("<|im_startend> ué\n"), max_size=30), max_size=4))
def test_a_conversation_is_read_as_transformers_reads_its_turns_unless_a_row_spells_a_token(
    chat: Tokenizer, reference: PreTrainedTokenizerFast, contents: list[str]
) -> None:
    task = Instruction(turns=CHAT)
    turns = [{"role": "user", "content": text} for text in ["Hi", *contents]]
    example = task.prompt_of(Row({"messages": turns}, "rows:1"))
    (ids,) = encode_prompts([example], chat, Layout(10_000)).ids
    rendered = "".join(f"{START}user\n{turn['content']}{END}\n" for turn in turns)
    rendered += f"{START}assistant\n"
    assert chat.decode(ids.tolist()) == rendered
    assert ids.tolist().count(ids_of(chat, MarkedText.literal(START))[0]) == len(turns) + 1
    if not any(name in text for name in NAMES for text in contents):
        assert ids.tolist() == reference(rendered, add_special_tokens=False)["input_ids"]


# Tasks.


def rows(path: Path, *values: dict[str, Any]) -> Path:
    return write_splits(path, values)


def test_every_kind_of_template_may_name_special_tokens(tmp_path: Path, chat: Tokenizer) -> None:
    row = {"text": f"a {END} film", "label": 0, "instruction": "Add.", "output": END}
    path = rows(tmp_path, row, row | {"label": 1})
    tasks = [
        Classification(path=path, template=f"{START}{{text*}}{END}"),
        Cloze(
            path=path,
            template=f"{START}{{text}}{END}",
            verbalizers={"0": f" no{END}", "1": f" yes{END}"},
        ),
        Instruction(path=path, without_input=f"{START}{{instruction}}{END}"),
        Summarization(path=path, template=f"{START}{{text}}{END}", summary=f"{{output}}{END}"),
    ]
    start, end = (ids_of(chat, MarkedText.literal(name))[0] for name in (START, END))
    num_ends = []
    for task in tasks:
        sequence = task.encode(task.examples("train"), chat, Layout(200)).sequences[0]
        ids = sequence.ids.tolist()
        assert ids[0] == start
        num_ends.append(ids.count(end))
    # In the prompt; and in the verbalizer; and behind the target; and in the target too.
    assert num_ends == [1, 2, 2, 3]


def test_choices_are_compared_by_the_tokens_that_are_learnt(chat: Tokenizer) -> None:
    task = Cloze(template="{text}", verbalizers={"0": f" no{END}", "1": f" yes{END}"})
    for ids, name in zip(task.answer_kind.ids(chat), (" no", " yes"), strict=True):
        assert ids == [*ids_of(chat, name), chat.end_of_text]


def test_the_default_templates_name_none(chat: Tokenizer) -> None:
    task = make_config(fields={"task": {"kind": "instruction", "path": "a"}}).task
    example = task.prompt_of(Row({"instruction": f"Say {START}.", "input": END}, "rows:1"))
    (ids,) = encode_prompts([example], chat, Layout(10_000)).ids
    expected = [*ids_of(chat, example.prompt), *ids_of(chat, example.cue)]
    assert ids.tolist() == expected


# How texts begin.


def test_texts_begin_as_the_tokenizer_says_and_a_template_that_says_it_too_says_it_once() -> None:
    tokenizer = trained(begins=True)
    (begin,) = ids_of(tokenizer, MarkedText.literal(BEGIN))
    assert tokenizer.begin == tokenizer.opening == (begin,)
    row = Example("rows:1", "good", "bad")
    named = fill(f"{BEGIN}{{text}}", lambda _: "good")
    asked = Example.asking("rows:2", named.prompt, named.cue).with_target(MarkedText("bad"))
    good, bad, end = ids_of(tokenizer, "good"), ids_of(tokenizer, "bad"), tokenizer.end_of_text
    for layout in (Layout(50), Layout(50, (900, 901))):
        found = encode_answered([row, asked], tokenizer, layout).sequences
        for sequence in found:
            assert sequence.ids.tolist() == [*layout.virtual_ids, begin, *good, *bad, end]
        (empty,) = encode_prompts([Example("rows:3", "", "")], tokenizer, layout).ids
        assert empty.tolist() == [*layout.virtual_ids, begin]
        (whole,) = encode_texts_whole([row], tokenizer, layout).sequences
        assert whole.ids.tolist() == [*layout.virtual_ids, begin, *bad, end]
        assert whole.num_scored == len(bad) + 1


def test_where_texts_begin_with_nothing_the_end_of_the_text_before_opens_one(
    chat: Tokenizer,
) -> None:
    assert chat.begin == ()
    assert chat.opening == (chat.end_of_text,)
