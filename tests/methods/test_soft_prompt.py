"""A soft prompt: rows that the embedding did not have, before every text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.methods.soft_prompt import SoftPrompt
from tunewise.models import LanguageModel
from tunewise.models.folder import load_model


@pytest.fixture
def model(folders: dict[str, Path]) -> LanguageModel:
    return load_model(folders["gpt2"]).eval()


def prompt_of(model: LanguageModel, tokenizer: Tokenizer | None = None, **settings: Any) -> Tensor:
    SoftPrompt(**settings).adapt(model, torch.Generator().manual_seed(0), tokenizer)
    return model.get_parameter("token_embedding.prompt").detach()


def test_the_prompt_is_all_that_is_trained(model: LanguageModel) -> None:
    prompt = prompt_of(model, tokens=5)
    assert prompt.shape == (5, 16)
    assert [name for name, _ in model.trainable()] == ["token_embedding.prompt"]


def test_ordinary_ids_are_embedded_as_before_and_the_ids_past_them_as_the_prompt(
    model: LanguageModel,
) -> None:
    table = model.get_parameter("token_embedding.weight").detach().clone()
    prompt = prompt_of(model, tokens=5, init="gaussian")
    with torch.no_grad():
        assert torch.equal(model.token_embedding(torch.arange(285)), torch.cat([table, prompt]))


def test_a_tied_output_layer_stays_tied_and_does_not_answer_with_virtual_tokens(
    model: LanguageModel,
) -> None:
    prompt_of(model, tokens=5)
    assert model.head_is_tied
    assert model.logits(torch.zeros(1, 16)).shape == (1, 280)


def test_a_prompt_starts_at_rows_of_the_vocabulary(model: LanguageModel) -> None:
    table = model.get_parameter("token_embedding.weight").detach().clone()
    prompt = prompt_of(model, tokens=8, init="vocabulary")
    rows = [[torch.equal(row, known) for known in table].index(True) for row in prompt]
    assert len(set(rows)) > 1


def test_a_gaussian_prompt_has_the_deviation_of_fresh_embeddings(model: LanguageModel) -> None:
    prompt = prompt_of(model, tokens=39, init="gaussian")
    assert float(prompt.std()) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("tokens", [2, 5, 20])
def test_a_text_is_repeated_or_cut_to_the_length_of_the_prompt(
    model: LanguageModel, tokenizer: Tokenizer, tokens: int
) -> None:
    (ids,) = tokenizer.tokenize(["a good film"])
    table = model.get_parameter("token_embedding.weight").detach().clone()
    prompt = prompt_of(model, tokenizer, tokens=tokens, init="text", text="a good film")
    assert torch.equal(prompt, table[(ids * tokens)[:tokens]])


@pytest.mark.parametrize(
    "settings", [{"init": "text"}, {"init": "text", "text": ""}, {"text": "a good film"}]
)
def test_a_text_and_a_start_from_text_need_each_other(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="need each other"):
        SoftPrompt(**settings)


@pytest.mark.parametrize("tokens", [40, 41, 1000])
def test_a_prompt_that_leaves_no_room_for_text_is_refused_with_the_room_there_is(
    model: LanguageModel, tokens: int
) -> None:
    with pytest.raises(ConfigError, match=rf"method\.tokens: {tokens} .* 40 positions"):
        SoftPrompt(tokens=tokens).adapt(model, torch.Generator())
