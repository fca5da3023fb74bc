"""A prefix: keys and values before those of every text, as if more tokens had been read."""

from pathlib import Path

import pytest
import torch
from tiny import every_family
from torch import Tensor

from tunewise.config import RunConfig, make_config
from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.methods.prefix import PrefixTuning
from tunewise.models import LanguageModel
from tunewise.models.cache import Cache
from tunewise.models.folder import load_model
from tunewise.runs.prepare import max_sequence_length

TEXT = "a good cast"


def model_with(
    folder: Path, tokenizer: Tokenizer | None = None, tokens: int = 3, text: str | None = None
) -> LanguageModel:
    model = load_model(folder).eval()
    PrefixTuning(tokens=tokens, text=text).adapt(model, torch.Generator().manual_seed(0), tokenizer)
    return model


def logits_of(model: LanguageModel, *texts: list[int]) -> list[Tensor]:
    """Return the logits (T, V) of each text, all packed together."""
    (batch,) = pack([Encoded(str(n), torch.tensor(t).numpy(), 1) for n, t in enumerate(texts)], 999)
    logits = model.logits(model.hidden(batch))
    return [logits[batch.segments == number] for number in range(len(texts))]


@every_family
@pytest.mark.parametrize("tokens", [2, 5, 9])
@torch.no_grad()
def test_a_fresh_prefix_is_a_text_that_the_frozen_model_has_read(
    family: str, tokens: int, folders: dict[str, Path], tokenizer: Tokenizer
) -> None:
    (ids,) = tokenizer.tokenize([TEXT])
    read = (ids * tokens)[:tokens]
    texts = [[5, 6, 7, 8, 9, 10], [11], [12, 13, 14, 15, 16, 17]]
    found = logits_of(model_with(folders[family], tokenizer, tokens, TEXT), *texts)
    base = load_model(folders[family]).eval()
    expected = logits_of(base, *([*read, *text] for text in texts))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other[tokens:], rtol=1e-4, atol=1e-5)
    assert (found[0] - logits_of(base, texts[0])[0]).abs().max() > 0.01


def test_the_prefix_is_all_that_is_trained_and_costs_two_vectors_a_token_and_layer(
    folders: dict[str, Path],
) -> None:
    model = model_with(folders["gpt2"], tokens=5)
    assert [(name, tuple(p.shape)) for name, p in model.trainable()] == [
        (f"blocks.{index}.attention.prefix.{part}", (5, 16))
        for index in range(3)
        for part in ("keys", "values")
    ]
    assert model.count_parameters()[1] == 3 * 2 * 5 * 16


def test_random_tokens_are_drawn_from_the_vocabulary(folders: dict[str, Path]) -> None:
    """Keys of the first layer are a function of the token and its position."""
    model = model_with(folders["gpt2"])
    tokens = torch.randint(280, (3,), generator=torch.Generator().manual_seed(0))
    states = model.token_embedding(tokens) + model.get_parameter("position_embedding.weight")[:3]
    block = model.blocks[0]
    keys = block.get_submodule("attention.key")(block.get_submodule("attention_norm")(states))
    found = model.get_parameter("blocks.0.attention.prefix.keys")
    torch.testing.assert_close(found, keys, rtol=1e-5, atol=1e-6)


@every_family
@torch.inference_mode()
def test_rows_that_stay_go_and_double_in_a_cache_see_the_prefix(
    family: str, folders: dict[str, Path]
) -> None:
    model = model_with(folders[family])
    rows = [[5], [6, 7], [8, 9, 10, 11, 12], [13, 14, 15, 16, 17]]
    cache = Cache(3, [len(row) for row in rows], 10, 8, torch.device("cpu"), model.first_position)
    for part in (rows[:2], rows[2:]):
        (batch,) = pack([Encoded("", torch.tensor(row).numpy(), 1) for row in part], 999)
        model.hidden(batch, cache)
    for step, kept in enumerate([[0, 1, 2, 3], [0, 3, 2], [2, 2, 1, 0, 0], [1, 4, 2], [1], [0, 0]]):
        rows = [[*rows[row], 20 + 7 * step + place] for place, row in enumerate(kept)]
        cache.keep(kept)
        tokens = torch.tensor([row[-1] for row in rows])
        hidden = model.next_hidden(tokens, cache)
        for found, row in zip(model.logits(hidden), rows, strict=True):
            torch.testing.assert_close(found, logits_of(model, row)[0][-1], rtol=1e-4, atol=1e-5)


def test_an_output_ends_where_the_positions_do(
    folders: dict[str, Path], tokenizer: Tokenizer
) -> None:
    model = model_with(folders["gpt2"], tokens=10)
    with torch.no_grad():
        model.get_parameter("final_norm.weight").zero_()  # so that only the bias decides
        model.get_parameter("final_norm.bias").copy_(model.get_parameter("head.weight")[7] * 9)
    outputs = generate(model, [[1] * 5, [1] * 27], tokenizer, DecodingConfig(max_new_tokens=20))
    assert [len(output) for output in outputs] == [20, 40 - 10 - 27]


def configured(*words: str) -> RunConfig:
    return make_config(overrides=["task=pocket_reviews", "method=prefix", *words])


def test_the_length_of_a_sequence_counts_the_prefix(folders: dict[str, Path]) -> None:
    shape = load_model(folders["gpt2"]).config
    assert max_sequence_length(configured("method.tokens=10", "train.max_length=30"), shape) == 20
    assert max_sequence_length(configured("method.tokens=10"), shape) == 30
    with pytest.raises(ConfigError, match="11 leaves no room for text behind 10 virtual tokens"):
        max_sequence_length(configured("method.tokens=10", "train.max_length=11"), shape)
    with pytest.raises(ConfigError, match="41; the model has 40 positions"):
        max_sequence_length(configured("method.tokens=10", "train.max_length=41"), shape)


@pytest.mark.parametrize("tokens", [40, 1000])
def test_a_prefix_that_leaves_no_room_for_text_is_refused_with_the_room_there_is(
    folders: dict[str, Path], tokens: int
) -> None:
    with pytest.raises(ConfigError, match=rf"method\.tokens: {tokens} .* 40 positions"):
        model_with(folders["gpt2"], tokens=tokens)
