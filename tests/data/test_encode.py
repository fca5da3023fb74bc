"""Texts become ids: what is scored, what is cut, what is kept."""

import pytest

from tunewise.data.encode import Encoded, encode_labelled, encode_texts_whole
from tunewise.data.example import Example
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
    encoded = encode_texts_whole(examples, tokenizer, max_length, prefix)
    for example, ids in zip(examples, tokenizer.encode(TEXTS), strict=True):
        pieces = [s for s in encoded.sequences if s.example_id == example.id]
        assert [i for piece in pieces for i in scored(piece)] == [*ids, tokenizer.end_of_text]
        assert sum(piece.num_scored for piece in pieces) == len(ids) + 1


@pytest.mark.parametrize("prefix", [(), PREFIX])
@pytest.mark.parametrize("max_length", [5, 9, 500])
def test_each_piece_fits_starts_with_the_prefix_and_goes_on_from_the_last_token_before_it(
    tokenizer: Tokenizer, max_length: int, prefix: tuple[int, ...]
) -> None:
    encoded = encode_texts_whole(texts(TEXTS[2]), tokenizer, max_length, prefix)
    before = tokenizer.end_of_text
    for piece in encoded.sequences:
        assert len(piece.ids) <= max_length
        assert tuple(piece.ids[: len(prefix)]) == prefix
        assert piece.ids[len(prefix)] == before
        before = int(piece.ids[-1])


def test_a_text_that_is_cut_into_pieces_loses_nothing(tokenizer: Tokenizer) -> None:
    encoded = encode_texts_whole(texts(*TEXTS), tokenizer, 5)
    assert (encoded.num_truncated, encoded.num_tokens_cut) == (0, 0)


def test_truncation_is_counted_by_example_and_by_token(tokenizer: Tokenizer) -> None:
    prompts = ["bad", "the film is not good at all", "good film, " * 10]
    room = 5
    lengths = [len(ids) for ids in tokenizer.encode(prompts)]
    assert min(lengths) <= room < sorted(lengths)[1]  # else this would test nothing
    encoded = encode_labelled(labelled(*prompts), tokenizer, room + len(PREFIX), PREFIX)
    assert encoded.num_truncated == 2
    assert encoded.num_tokens_cut == sum(max(0, length - room) for length in lengths)
    assert max(len(s.ids) for s in encoded.sequences) == room + len(PREFIX)


def test_the_start_of_a_long_text_is_what_is_kept(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.encode([TEXTS[2]])
    (sequence,) = encode_labelled(labelled(TEXTS[2]), tokenizer, 10, PREFIX).sequences
    assert sequence.ids.tolist() == [*PREFIX, *ids[: 10 - len(PREFIX)]]


def test_a_text_that_just_fits_is_not_called_truncated(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.encode([TEXTS[2]])
    fits = encode_labelled(labelled(TEXTS[2]), tokenizer, len(ids))
    assert (fits.num_truncated, fits.num_tokens_cut) == (0, 0)
    cut = encode_labelled(labelled(TEXTS[2]), tokenizer, len(ids) - 1)
    assert (cut.num_truncated, cut.num_tokens_cut) == (1, 1)


@pytest.mark.parametrize("prefix", [(), PREFIX])
def test_an_empty_text_can_still_be_answered(tokenizer: Tokenizer, prefix: tuple[int, ...]) -> None:
    (sequence,) = encode_labelled(labelled(""), tokenizer, 10, prefix).sequences
    assert sequence.ids.tolist() == [*prefix, tokenizer.end_of_text]
    assert (sequence.label, sequence.num_scored) == (1, 1)


def test_a_label_is_its_place_among_the_choices(tokenizer: Tokenizer) -> None:
    choices = ("red", "green", "blue")
    examples = [Example(c, "a text", c, choices) for c in choices]
    sequences = encode_labelled(examples, tokenizer, 20).sequences
    assert [s.label for s in sequences] == [0, 1, 2]


def test_a_row_that_spells_the_end_of_text_token_does_not_end_its_text(
    tokenizer: Tokenizer,
) -> None:
    text = f"good {END_OF_TEXT} bad"
    (ids,) = tokenizer.encode([text])
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == text
    (sequence,) = encode_labelled(labelled(text), tokenizer, 100).sequences
    assert tokenizer.end_of_text not in sequence.ids


def test_any_text_comes_back_from_its_ids(tokenizer: Tokenizer) -> None:
    for text, ids in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        assert tokenizer.decode(ids) == text
