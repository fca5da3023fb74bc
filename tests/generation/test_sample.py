"""Laws of choosing a token: penalties and filters are those of transformers, draws follow p."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers.generation import logits_process

from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.generation.sample import filter_logits, penalise_seen
from tunewise.models import LanguageModel

from .ways import (
    GREEDY,
    NEVER,
    SAMPLED,
    VOCABULARY,
    Sequences,
    next_logits,
    tokenizer_of,
)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [None, 1, 7, 1000])
@pytest.mark.parametrize("top_p", [None, 1e-9, 0.3, 0.9, 1.0])
def test_what_may_be_drawn_is_what_transformers_would_draw_from(
    temperature: float, top_k: int | None, top_p: float | None, device: torch.device
) -> None:
    logits = 3 * torch.randn(20, VOCABULARY, generator=torch.Generator().manual_seed(0))
    way = DecodingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    expected = logits_process.TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        expected = logits_process.TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None and top_p < 1:
        expected = logits_process.TopPLogitsWarper(top_p)(None, expected)
    torch.testing.assert_close(filter_logits(logits.to(device), way).cpu(), expected)


def test_repetition_is_penalised_as_in_transformers(device: torch.device) -> None:
    logits = torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 2], [5, 6, 7], [8, 8, 8], [0, 99, 3]])
    seen = torch.zeros(4, VOCABULARY, dtype=torch.bool).scatter(1, ids, True)
    expected = logits_process.RepetitionPenaltyLogitsProcessor(1.7)(ids, logits)
    assert torch.equal(penalise_seen(logits.to(device), seen.to(device), 1.7).cpu(), expected)


def test_what_is_drawn_depends_on_the_seed_and_the_place_of_a_prompt_alone(
    model: LanguageModel, sequences: Sequences
) -> None:
    outputs = generate(model, sequences, tokenizer_of(5), SAMPLED, seed=1)
    torch.manual_seed(99)
    assert generate(model, sequences, tokenizer_of(5), SAMPLED, seed=1) == outputs
    assert generate(model, sequences[:4], tokenizer_of(5), SAMPLED, seed=1) == outputs[:4]
    others = generate(model, sequences, tokenizer_of(5), SAMPLED, seed=2)
    assert all(ids != other for ids, other in zip(outputs, others, strict=True))
    same = generate(model, [[1, 2, 3]] * 4, tokenizer_of(NEVER), SAMPLED)
    assert len({str(ids) for ids in same}) == 4


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-9}], ids=["top_k", "top_p"])
def test_a_draw_from_the_likeliest_token_alone_is_greedy(
    model: LanguageModel, sequences: Sequences, narrow: dict[str, Any]
) -> None:
    way = GREEDY.model_copy(update={"temperature": 1.5, "repetition_penalty": 1.2, **narrow})
    greedy = GREEDY.model_copy(update={"repetition_penalty": 1.2})
    expected = generate(model, sequences, tokenizer_of(5), greedy)
    assert generate(model, sequences, tokenizer_of(5), way) == expected


@pytest.mark.parametrize(
    "values",
    [{"temperature": 1.3, "top_k": 30, "top_p": 0.9}, {"temperature": 0.3}],
    ids=["flat", "peaked"],
)
def test_tokens_are_drawn_as_often_as_they_are_likely(
    model: LanguageModel, values: dict[str, Any]
) -> None:
    prompt, num_draws = [3, 1, 4], 4000
    way = DecodingConfig(max_new_tokens=1, **values)
    drawn = Counter(
        ids[0] for ids in generate(model, [prompt] * num_draws, tokenizer_of(NEVER), way)
    )
    expected = num_draws * filter_logits(next_logits(model, prompt)[None], way).softmax(-1)[0].cpu()
    assert drawn.keys() <= set(expected.nonzero().flatten().tolist())
    often = (expected >= 5).nonzero().flatten().tolist()
    assert len(often) > 3
    chi_square = sum(
        (drawn[token] - float(expected[token])) ** 2 / expected[token] for token in often
    )
    freedom = len(often) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


def test_a_draw_tells_nothing_of_the_next(model: LanguageModel) -> None:
    way = DecodingConfig(max_new_tokens=30, temperature=1e6)  # all tokens alike
    outputs = generate(model, [[1]] * 30, tokenizer_of(NEVER), way)
    repeated = sum(first == second for ids in outputs for first, second in pairwise(ids))
    alike = sum(
        token == other for pair in pairwise(outputs) for token, other in zip(*pair, strict=True)
    )
    assert repeated < 25 and alike < 25, "870 pairs of tokens, of which one in 100 is equal"
