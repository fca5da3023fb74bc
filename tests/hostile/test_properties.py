"""Laws that hold for any configuration, any rows, any text and any lengths."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import METHOD_SETTINGS, TASK_SETTINGS

from tunewise.config import RunConfig, make_config, write_yaml
from tunewise.data.encode import (
    Encoded,
    encode_answered,
    encode_labelled,
    encode_prompts,
    encode_texts_whole,
)
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.packing import IGNORE, pack
from tunewise.data.rows import Row
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, TunewiseError
from tunewise.methods import METHODS
from tunewise.models import LanguageModel
from tunewise.settings import validate
from tunewise.tasks import TASKS
from tunewise.tasks.template import columns_of, fill
from tunewise.training.loop import epoch_order
from tunewise.training.optimizers import NAMES, OPTIMIZERS
from tunewise.yaml import dump_yaml, load_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SEED = st.integers(0, 2**32 - 1)

# --- configurations

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXT, inside, max_size=4),
    max_leaves=15,
)


@given(VALUES)
def test_any_values_are_the_same_after_yaml(values: Any) -> None:
    assert load_yaml(dump_yaml(values)) == values


OF_METHODS = st.sampled_from(
    [{"kind": kind} | METHOD_SETTINGS.get(kind, {}) for kind in METHODS if kind != "lora"]
) | st.fixed_dictionaries(
    {"kind": st.just("lora"), "rank": st.integers(1, 512), "alpha": st.floats(1e-6, 1e6)},
    optional={
        "dropout": st.floats(0, 0.9),
        "targets": st.lists(
            st.sampled_from([*LanguageModel.layers, "head"]), min_size=1, unique=True
        ),
    },
)
OF_OPTIMIZERS = st.sampled_from([*NAMES, *({"kind": kind} for kind in OPTIMIZERS)])
LABELS = st.dictionaries(TEXT.filter(str.strip), TEXT.filter(str.strip), min_size=2, max_size=4)
OF_TASKS = st.sampled_from(
    [
        {"kind": kind, "path": "/rows.jsonl"} | TASK_SETTINGS.get(kind, {})
        for kind in TASKS
        if kind != "classification"
    ]
) | st.fixed_dictionaries(
    {"kind": st.just("classification"), "path": st.just("/rows.jsonl")},
    optional={
        "description": TEXT,
        "text": TEXT,
        "samples": st.integers(1, 10**6),
        "lowercase": st.booleans(),
        "labels": LABELS.filter(lambda labels: len(set(labels.values())) == len(labels)),
    },
)
CONFIGS = st.fixed_dictionaries(
    {"task": OF_TASKS, "method": OF_METHODS, "seed": SEED},
    optional={
        "model": TEXT,
        "train": st.fixed_dictionaries(
            {"learning_rate": st.floats(1e-12, 10)},
            optional={
                "epochs": st.integers(0, 1000),
                "optimizer": OF_OPTIMIZERS,
                "batch_size": st.integers(1, 4096),
                "weight_decay": st.floats(0, 1),
                "schedule": st.sampled_from(["cosine", "linear", "constant"]),
            },
        ).map(lambda train: {**train, "min_learning_rate": 0.0}),
    },
)


@given(CONFIGS)
def test_a_configuration_is_the_same_after_its_file(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    config = validate(RunConfig, values, "test")
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    write_yaml(config, path)
    assert make_config(path) == config
    write_yaml(make_config(path), path.with_name("again.yaml"))
    assert path.with_name("again.yaml").read_bytes() == path.read_bytes()


@given(CONFIGS, st.sampled_from(["", "task", "method", "train"]), TEXT.filter(str.strip))
def test_an_unknown_field_is_an_error_that_names_it(
    values: dict[str, Any], place: str, name: str
) -> None:
    name = f"{name}?"  # no field ends so
    inner = values.setdefault(place, {}) if place else values
    values = {**values, place: {**inner, name: 1}} if place else {**values, name: 1}
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, values, "test")
    shown = str(ConfigError(repr(name)))  # as a line of printable characters
    assert f"unknown field {shown}" in str(caught.value)


@given(VALUES)
def test_any_values_are_a_configuration_or_one_line(values: Any) -> None:
    for field in RunConfig.model_fields:
        try:
            validate(RunConfig, {field: values}, "test")
        except TunewiseError as error:
            assert str(error).isprintable()


# --- templates and what is cut

NAMES = st.text(st.characters(categories=["L"]), min_size=1, max_size=5)


@given(st.text(st.sampled_from("{}*!:.[]ab \n'\"%$\0"), max_size=12))
def test_any_template_is_one_or_one_line(template: str) -> None:
    try:
        names = columns_of(template)
    except ValueError:
        return
    if names:
        filled = fill(template, lambda name: f"<{name}>")
        assert all(f"<{name}>" in filled.prompt.value for name in names[:1])
        assert filled.whole.value == filled.prompt.value + filled.cue.value


@given(NAMES, TEXT, TEXT, TEXT)
def test_a_template_is_its_words_around_the_values_whatever_these_are(
    name: str, before: str, value: str, after: str
) -> None:
    quoted = [text.replace("{", "{{").replace("}", "}}") for text in (before, after)]
    template = f"{quoted[0]}{{{name}}}{quoted[1]}"
    assert columns_of(template) == [name]
    found = fill(template, Row({name: value}, "rows:1").text)
    assert (found.prompt.value, found.cue.value) == (before + value, after)


LENGTHS = st.integers(4, 60)
EXAMPLES = st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["", "cue:"])), min_size=1, max_size=5)


def examples_of(texts: list[tuple[str, str, str]]) -> list[Example]:
    return [
        Example(f"rows:{number}", prompt, target, cue=cue)
        for number, (prompt, target, cue) in enumerate(texts)
    ]


@given(EXAMPLES, LENGTHS, st.integers(0, 2))
def test_what_is_cut_fits_and_keeps_what_must_stay(
    tokenizer: Tokenizer, texts: list[tuple[str, str, str]], max_length: int, num_virtual: int
) -> None:
    prefix = tuple(range(900, 900 + num_virtual))
    room = max_length - num_virtual
    found = encode_answered(examples_of(texts), tokenizer, Layout(max_length, prefix))
    for (prompt, target, cue), sequence in zip(texts, found.sequences, strict=True):
        whole = [tokenizer.tokenize([text])[0] for text in (prompt, cue, target)]
        ids = sequence.ids.tolist()
        assert len(ids) <= max_length
        assert tuple(ids[:num_virtual]) == prefix
        assert sequence.prompt_length > num_virtual  # something to answer from
        asked, answer = ids[num_virtual : sequence.prompt_length], ids[sequence.prompt_length :]
        wanted = [*whole[2], tokenizer.end_of_text]
        assert answer == wanted[: len(answer)]
        assert answer
        assert len(answer) == len(wanted) or len(asked) + len(answer) == room
        half = (room + 1) // 2
        assert asked[-min(len(whole[1]), half) :] == whole[1][-half:] or not whole[1]
        if len(whole[0]) + len(whole[1]) + len(wanted) <= room and prompt + cue:
            assert asked == whole[0] + whole[1]
            assert len(answer) == len(wanted)
    assert found.num_truncated <= len(texts)


@given(EXAMPLES, LENGTHS)
def test_prompts_labels_and_pieces_fit_and_lose_no_more_than_is_told(
    tokenizer: Tokenizer, texts: list[tuple[str, str, str]], max_length: int
) -> None:
    examples = examples_of(texts)
    prompts = encode_prompts(examples, tokenizer, Layout(max_length))
    for (prompt, _, cue), ids, cut in zip(texts, prompts.ids, prompts.cut, strict=True):
        num_whole = sum(map(len, tokenizer.tokenize([prompt, cue])))
        assert 0 < len(ids) <= max_length
        assert len(ids) + cut == max(num_whole, 1)
    labelled = [
        Example(e.id, e.prompt, "good", choices=("bad", "good"), cue=e.cue) for e in examples
    ]
    for sequence in encode_labelled(labelled, tokenizer, Layout(max_length)).sequences:
        assert 0 < len(sequence.ids) <= max_length
        assert (sequence.label, sequence.num_scored) == (1, 1)
    pieces = encode_texts_whole(examples, tokenizer, Layout(max_length)).sequences
    assert all(len(piece.ids) <= max_length for piece in pieces)
    num_tokens = sum(len(tokenizer.tokenize([target])[0]) + 1 for _, target, _ in texts)
    assert sum(piece.num_scored for piece in pieces) == num_tokens


# --- packing


@st.composite
def sequences(draw: st.DrawFn) -> list[Encoded]:
    """Sequences in which each token is another, so that each can be found again."""
    lengths = draw(st.lists(st.integers(2, 30), min_size=1, max_size=12))
    some, start = [], 0
    for number, length in enumerate(lengths):
        ids = np.arange(start, start + length, dtype=np.int32)
        label = draw(st.none() | st.integers(0, 3))
        given_tokens = draw(st.integers(1, length - 1)) if label is None else length
        some.append(Encoded(f"rows:{number}", ids, given_tokens, label))
        start += length
    return some


@given(sequences(), st.integers(1, 100))
def test_packing_puts_every_token_once_within_bounds(
    some: list[Encoded], tokens_per_pass: int
) -> None:
    batches = list(pack(some, tokens_per_pass))
    tokens = torch.cat([batch.tokens for batch in batches]).tolist()
    assert sorted(tokens) == [i for sequence in some for i in sequence.ids.tolist()]
    assert sum(batch.num_scored for batch in batches) == sum(s.num_scored for s in some)
    remaining = iter(some)
    for batch in batches:
        count = len(batch.tokens)
        numbers = torch.unique_consecutive(batch.segments).tolist()
        assert count <= tokens_per_pass or len(numbers) == 1
        assert int((batch.targets != IGNORE).sum()) == batch.num_scored
        members = [next(remaining) for _ in numbers]  # whole sequences, in their order
        assert sorted(numbers) == list(range(len(members)))
        for number in numbers:
            inside, sequence = batch.segments == number, members[number]
            assert batch.tokens[inside].tolist() == sequence.ids.tolist()
            assert batch.positions[inside].tolist() == list(range(len(sequence.ids)))
            targets = batch.targets[inside].tolist()
            if sequence.label is not None:
                assert targets == [IGNORE] * (len(sequence.ids) - 1) + [sequence.label]
            else:
                scored = sequence.ids[sequence.prompt_length :].tolist()
                assert [t for t in targets if t != IGNORE] == scored
    assert next(remaining, None) is None


@given(sequences(), st.integers(1, 100))
def test_a_batch_ends_only_where_the_next_sequence_would_be_too_much(
    some: list[Encoded], tokens_per_pass: int
) -> None:
    batches = list(pack(some, tokens_per_pass))
    for batch, after in pairwise(batches):
        first = int((after.segments == 0).sum())
        assert len(batch.tokens) + first > tokens_per_pass


@given(st.integers(1, 200), st.integers(0, 5), SEED)
def test_the_order_of_an_epoch_is_a_shuffle_that_its_seed_decides(
    count: int, epoch: int, seed: int
) -> None:
    order = epoch_order(count, epoch, seed)
    assert sorted(order) == list(range(count))
    assert order == epoch_order(count, epoch, seed)
    if count > 20:
        assert order != epoch_order(count, epoch + 1, seed)
        assert order != epoch_order(count, epoch, (seed + 1) % 2**32)
