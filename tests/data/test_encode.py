"""Texts become ids: what is scored, what is cut, what is kept."""

import random

import pytest

from tunewise.data.encode import (
    Encoded,
    LossOn,
    encode_answered,
    encode_labelled,
    encode_prompts,
    encode_texts_whole,
)
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer

PREFIX = (900, 901, 902)
TEXTS = ["", "good", "the film is not good at all, " * 4, "naïve 🎬 \x00\u2028 end"]


def texts(*targets: str) -> list[Example]:
    return [Example(f"rows:{number}", "", target) for number, target in enumerate(targets)]


def labelled(*prompts: str) -> list[Example]:
    choices = ("bad", "good")
    return [Example(f"rows:{n}", prompt, "good", choices) for n, prompt in enumerate(prompts)]


def scored(sequence: Encoded) -> list[int]:
    return sequence.ids[max(1, sequence.prompt_length) :].tolist()


@pytest.mark.parametrize("prefix", [(), PREFIX])
@pytest.mark.parametrize("max_length", [6, 9, 500])
def test_the_pieces_of_a_text_score_each_of_its_tokens_once_and_its_end(
    tokenizer: Tokenizer, max_length: int, prefix: tuple[int, ...]
) -> None:
    examples = texts(*TEXTS)
    encoded = encode_texts_whole(examples, tokenizer, Layout(max_length, prefix))
    for example, ids in zip(examples, tokenizer.tokenize(TEXTS), strict=True):
        pieces = [s for s in encoded.sequences if s.example_id == example.id]
        assert [i for piece in pieces for i in scored(piece)] == [*ids, tokenizer.end_of_text]
        assert sum(piece.num_scored for piece in pieces) == len(ids) + 1


@pytest.mark.parametrize("prefix", [(), PREFIX])
@pytest.mark.parametrize("max_length", [5, 9, 500])
def test_each_piece_fits_starts_with_the_prefix_and_goes_on_from_the_last_token_before_it(
    tokenizer: Tokenizer, max_length: int, prefix: tuple[int, ...]
) -> None:
    encoded = encode_texts_whole(texts(TEXTS[2]), tokenizer, Layout(max_length, prefix))
    before = tokenizer.end_of_text
    for piece in encoded.sequences:
        assert len(piece.ids) <= max_length
        assert tuple(piece.ids[: len(prefix)]) == prefix
        assert piece.ids[len(prefix)] == before
        before = int(piece.ids[-1])


def test_a_text_that_is_cut_into_pieces_loses_nothing(tokenizer: Tokenizer) -> None:
    encoded = encode_texts_whole(texts(*TEXTS), tokenizer, Layout(5))
    assert (encoded.num_truncated, encoded.num_tokens_cut) == (0, 0)


def test_truncation_is_counted_by_example_and_by_token(tokenizer: Tokenizer) -> None:
    prompts = ["bad", "the film is not good at all", "good film, " * 10]
    room = 5
    lengths = [len(ids) for ids in tokenizer.tokenize(prompts)]
    assert min(lengths) <= room < sorted(lengths)[1]  # else this would test nothing
    encoded = encode_labelled(labelled(*prompts), tokenizer, Layout(room + len(PREFIX), PREFIX))
    assert encoded.num_truncated == 2
    assert encoded.num_tokens_cut == sum(max(0, length - room) for length in lengths)
    assert max(len(s.ids) for s in encoded.sequences) == room + len(PREFIX)


def test_the_start_of_a_long_text_is_what_is_kept(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.tokenize([TEXTS[2]])
    (sequence,) = encode_labelled(labelled(TEXTS[2]), tokenizer, Layout(10, PREFIX)).sequences
    assert sequence.ids.tolist() == [*PREFIX, *ids[: 10 - len(PREFIX)]]


def test_a_text_that_just_fits_is_not_called_truncated(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.tokenize([TEXTS[2]])
    fits = encode_labelled(labelled(TEXTS[2]), tokenizer, Layout(len(ids)))
    assert (fits.num_truncated, fits.num_tokens_cut) == (0, 0)
    cut = encode_labelled(labelled(TEXTS[2]), tokenizer, Layout(len(ids) - 1))
    assert (cut.num_truncated, cut.num_tokens_cut) == (1, 1)


@pytest.mark.parametrize("prefix", [(), PREFIX])
def test_an_empty_text_can_still_be_answered(tokenizer: Tokenizer, prefix: tuple[int, ...]) -> None:
    (sequence,) = encode_labelled(labelled(""), tokenizer, Layout(10, prefix)).sequences
    assert sequence.ids.tolist() == [*prefix, tokenizer.end_of_text]
    assert (sequence.label, sequence.num_scored) == (1, 1)


def test_a_label_is_its_place_among_the_choices(tokenizer: Tokenizer) -> None:
    choices = ("red", "green", "blue")
    examples = [Example(c, "a text", c, choices) for c in choices]
    sequences = encode_labelled(examples, tokenizer, Layout(20)).sequences
    assert [s.label for s in sequences] == [0, 1, 2]


def test_a_row_that_spells_the_end_of_text_token_does_not_end_its_text(
    tokenizer: Tokenizer,
) -> None:
    text = f"good {END_OF_TEXT} bad"
    (ids,) = tokenizer.tokenize([text])
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == text
    (sequence,) = encode_labelled(labelled(text), tokenizer, Layout(100)).sequences
    assert tokenizer.end_of_text not in sequence.ids


def test_any_text_comes_back_from_its_ids(tokenizer: Tokenizer) -> None:
    for text, ids in zip(TEXTS, tokenizer.tokenize(TEXTS), strict=True):
        assert tokenizer.decode(ids) == text


# Prompts and their answers.

CUE = "\nTL;DR:"


def answered(seed: int, number: int = 40) -> list[Example]:
    """Return prompts and targets of any length, with a cue each or none."""
    chance = random.Random(seed)
    words = ["good", "film", "the", "not", "at all", "bad, "]

    def text(most: int) -> str:
        return " ".join(chance.choices(words, k=chance.randrange(most)))

    return [
        Example(f"rows:{n}", text(30), "a" + text(20), cue=chance.choice(("", CUE)))
        for n in range(number)
    ]


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    (ids,) = tokenizer.tokenize([text])
    return ids


# Ten of any; tests/hostile/test_properties.py has the same laws for any text and length.
random_lengths = pytest.mark.parametrize(
    ("seed", "max_length", "prefix", "end"),
    [
        (n, length, PREFIX if n % 2 else (), n % 3 > 0)
        for n, length in enumerate((2, 3, 5, 8, 13, 21, 40, 2, 13, 200))
    ],
)


@random_lengths
@pytest.mark.parametrize("loss_on", ["answer", "everything"])
def test_every_answered_sequence_fits_and_has_something_to_score(
    tokenizer: Tokenizer,
    seed: int,
    max_length: int,
    prefix: tuple[int, ...],
    end: bool,
    loss_on: LossOn,
) -> None:
    examples, longest = answered(seed), max_length + len(prefix)
    encoded = encode_answered(examples, tokenizer, Layout(longest, prefix), loss_on, end)
    assert [s.example_id for s in encoded.sequences] == [e.id for e in examples]
    for sequence in encoded.sequences:
        assert len(sequence.ids) <= longest
        assert tuple(sequence.ids[: len(prefix)]) == prefix
        assert sequence.num_scored > 0
        assert sequence.label is None


@random_lengths
def test_a_sequence_is_the_start_of_the_prompt_the_cue_and_the_start_of_the_target(
    tokenizer: Tokenizer, seed: int, max_length: int, prefix: tuple[int, ...], end: bool
) -> None:
    examples, room = answered(seed), max_length
    encoded = encode_answered(examples, tokenizer, Layout(room + len(prefix), prefix), end=end)
    num_cut = []
    for example, sequence in zip(examples, encoded.sequences, strict=True):
        prompt, cue = ids_of(tokenizer, example.prompt), ids_of(tokenizer, example.cue)
        target = ids_of(tokenizer, example.target) + [tokenizer.end_of_text] * end
        given = sequence.ids[len(prefix) : sequence.prompt_length].tolist()
        kept = sequence.ids[sequence.prompt_length :].tolist()
        half = (room + 1) // 2
        assert kept == target[: len(kept)]
        if not prompt and not cue:
            assert given == [tokenizer.end_of_text]
            continue
        if len(cue) <= half:  # the cue is never cut while it fits
            assert given == prompt[: len(given) - len(cue)] + cue
        else:
            assert given[-half:] == cue[-len(given) :][-half:]
        # Half of the room is the prompt's; what one of the two leaves the other has.
        assert len(given) >= min(len(prompt) + len(cue), half)
        assert len(given) + len(kept) == min(room, len(prompt) + len(cue) + len(target))
        num_cut.append(len(prompt) + len(cue) - len(given) + len(target) - len(kept))
    whole = [e for e in examples if e.prompt + e.cue]
    if len(whole) == len(examples):
        assert encoded.num_tokens_cut == sum(num_cut)
        assert encoded.num_truncated == sum(cut > 0 for cut in num_cut)


def test_a_short_prompt_leaves_its_room_to_the_target_and_a_short_target_to_the_prompt(
    tokenizer: Tokenizer,
) -> None:
    long, short = "good film, " * 20, "bad"
    size, longest = len(ids_of(tokenizer, short)), 20
    for prompt, target, start in ((short, long, size), (long, short, longest - size - 1)):
        examples = [Example("rows:1", prompt, target)]
        (sequence,) = encode_answered(examples, tokenizer, Layout(longest)).sequences
        assert (sequence.prompt_length, len(sequence.ids)) == (start, longest)


def test_the_end_of_a_target_that_fits_is_learnt_and_that_of_a_cut_one_is_not(
    tokenizer: Tokenizer,
) -> None:
    examples = [Example("rows:1", "good", TEXTS[2])]
    (whole,) = encode_answered(examples, tokenizer, Layout(500)).sequences
    (cut,) = encode_answered(examples, tokenizer, Layout(20)).sequences
    assert whole.ids[-1] == tokenizer.end_of_text
    assert tokenizer.end_of_text not in cut.ids


def test_a_target_that_is_cut_is_counted_with_its_end_of_text(tokenizer: Tokenizer) -> None:
    target = ids_of(tokenizer, TEXTS[2])
    encoded = encode_answered([Example("rows:1", "", TEXTS[2])], tokenizer, Layout(10))
    assert encoded.num_truncated == 1
    assert encoded.num_tokens_cut == len(target) + 1 - 9  # 10 with the end of text that opens it


def test_the_answer_alone_is_scored_or_everything_behind_the_first_token(
    tokenizer: Tokenizer,
) -> None:
    example = Example("rows:1", "the film is", " good", cue=CUE)
    given = ids_of(tokenizer, example.prompt) + ids_of(tokenizer, CUE)
    target = [*ids_of(tokenizer, example.target), tokenizer.end_of_text]
    for prefix in ((), PREFIX):
        for loss_on, wanted in (("answer", target), ("everything", [*given, *target][1:])):
            (sequence,) = encode_answered(
                [example], tokenizer, Layout(90, prefix), loss_on
            ).sequences
            assert scored(sequence) == wanted, loss_on
            assert sequence.num_scored == len(wanted)


def test_prompt_and_target_are_encoded_apart(tokenizer: Tokenizer) -> None:
    assert len(ids_of(tokenizer, "bad")) < len(ids_of(tokenizer, "b")) + len(
        ids_of(tokenizer, "ad")
    )  # else this would test nothing
    (sequence,) = encode_answered([Example("rows:1", "b", "ad")], tokenizer, Layout(90)).sequences
    assert sequence.ids[: sequence.prompt_length].tolist() == ids_of(tokenizer, "b")
    assert scored(sequence) == [*ids_of(tokenizer, "ad"), tokenizer.end_of_text]


@pytest.mark.parametrize("max_length", [2, 5, 21, 200])
@pytest.mark.parametrize("reserved", [0, 3, 1000])
def test_prompts_leave_what_is_asked_for_but_never_less_than_half_of_the_room(
    tokenizer: Tokenizer, max_length: int, reserved: int
) -> None:
    examples = answered(seed=max_length)
    prompts = encode_prompts(
        examples, tokenizer, Layout(max_length + len(PREFIX), PREFIX), reserved
    )
    most = max(max_length - reserved, (max_length + 1) // 2)
    for example, ids, cut in zip(examples, prompts.ids, prompts.cut, strict=True):
        whole = len(ids_of(tokenizer, example.prompt)) + len(ids_of(tokenizer, example.cue))
        assert tuple(ids[: len(PREFIX)]) == PREFIX
        assert len(ids) - len(PREFIX) == max(1, min(whole, most))
        assert cut == whole - min(whole, most)


def test_each_prompt_can_have_a_room_of_its_own(tokenizer: Tokenizer) -> None:
    examples = [Example(f"rows:{n}", TEXTS[2], "a") for n in range(3)]
    prompts = encode_prompts(examples, tokenizer, Layout(12), reserved=[0, 4, 12])
    assert [len(ids) for ids in prompts.ids] == [12, 8, 6]


@pytest.mark.parametrize("prefix", [(), PREFIX])
def test_an_empty_prompt_gives_the_end_of_text_to_answer_from(
    tokenizer: Tokenizer, prefix: tuple[int, ...]
) -> None:
    (sequence,) = encode_answered(
        [Example("rows:1", "", "bad")], tokenizer, Layout(20, prefix)
    ).sequences
    assert sequence.ids[: sequence.prompt_length].tolist() == [*prefix, tokenizer.end_of_text]
    assert scored(sequence) == [*ids_of(tokenizer, "bad"), tokenizer.end_of_text]


def test_the_cue_of_a_classified_text_is_what_stays_when_the_text_is_cut(
    tokenizer: Tokenizer,
) -> None:
    example = Example("rows:1", TEXTS[2], "good", ("bad", "good"), CUE)
    cue = ids_of(tokenizer, CUE)
    (sequence,) = encode_labelled([example], tokenizer, Layout(15)).sequences
    assert sequence.ids.tolist() == ids_of(tokenizer, TEXTS[2])[: 15 - len(cue)] + cue
    # A cue that does not fit itself keeps its end, and what it lost is counted.
    encoded = encode_labelled([example], tokenizer, Layout(len(cue) - 1))
    assert encoded.sequences[0].ids.tolist() == cue[1:]
    assert encoded.num_tokens_cut == len(ids_of(tokenizer, TEXTS[2])) + 1
