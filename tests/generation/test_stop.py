"""Laws of stop strings: a text is cut exactly before the first, and no token too many is kept."""

import pytest

from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.generation.stop import text_of
from tunewise.models import LanguageModel

from .ways import (
    BEAMS,
    EVERY_WAY,
    GREEDY,
    LENGTH,
    NEVER,
    Sequences,
    tokenizer_of,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["letters", "bytes", "split characters"])
def test_a_text_is_cut_exactly_before_any_string_it_holds(model: LanguageModel, kind: str) -> None:
    tokenizer = tokenizer_of(NEVER, kind)
    prompts = [[3, 1, 4], [1, 5, 9, 2]]
    wholes = generate(model, prompts, tokenizer, GREEDY)
    texts = [tokenizer.decode(ids) for ids in wholes]
    for start in (1, 2, 3, 8, 9):
        for length in (1, 2, 3, 5):
            stop = texts[0][start : start + length]
            for stops in ([stop], ["\n", stop], ["never this", stop, stop + "!"]):
                way = GREEDY.model_copy(update={"stop": tuple(stops)})
                found = generate(model, prompts, tokenizer, way)
                for ids, whole, text in zip(found, wholes, texts, strict=True):
                    expected = text[: text.find(stop)] if stop in text else text
                    assert text_of(ids, tokenizer, way) == expected
                    assert ids == whole[: len(ids)]
                    shorter = [whole[:size] for size in range(len(ids))]
                    assert all(text_of(part, tokenizer, way) != expected for part in shorter)


@EVERY_WAY
def test_the_first_of_several_stop_strings_counts_in_every_way_of_writing(
    model: LanguageModel, sequences: Sequences, way: DecodingConfig
) -> None:
    tokenizer = tokenizer_of(NEVER, "letters")
    stops = ("a", "b", "cl", "dm", "sf")
    stopped = way.model_copy(update={"stop": stops})
    found = generate(model, sequences, tokenizer, stopped)
    texts = [text_of(ids, tokenizer, stopped) for ids in found]
    assert not any(stop in text for text in texts for stop in stops)
    assert any(len(ids) < LENGTH for ids in found)
    if way is not BEAMS:  # which choose among other outputs when some end early
        wholes = generate(model, sequences, tokenizer, way)
        assert texts == [text_of(ids, tokenizer, stopped) for ids in wholes]
        for text, whole in zip(texts, map(tokenizer.decode, wholes), strict=True):
            assert len(text) == min([len(whole), *(whole.find(s) for s in stops if s in whole)])
