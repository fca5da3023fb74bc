"""Laws of writing on from prompts; what a text gets is what transformers would give it, alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import reference
from torch import Tensor, nn

from tunewise.data.packing import Batch
from tunewise.errors import ModelError
from tunewise.generation import generate as decoding
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.methods.lora import LoRA
from tunewise.methods.method import merge
from tunewise.methods.soft_prompt import SoftPrompt
from tunewise.models import LanguageModel
from tunewise.models.cache import Cache

from .ways import (
    BEAMS,
    EVERY_FAMILY,
    EVERY_WAY,
    GREEDY,
    LENGTH,
    NEVER,
    VOCABULARY,
    Sequences,
    load_ours,
    next_logits,
    token_that_ends_some,
    tokenizer_of,
    written_by_transformers,
)

# Equal to transformers


@EVERY_FAMILY
@pytest.mark.parametrize("penalty", [1.0, 1.3, 0.8])
def test_greedy_outputs_are_those_of_transformers(
    family: str,
    penalty: float,
    sequences: Sequences,
    tmp_path: Path,
    device: torch.device,
) -> None:
    theirs = reference(family)
    ours = load_ours(theirs, tmp_path, device)
    way = GREEDY.model_copy(update={"repetition_penalty": penalty})
    whole = [written_by_transformers(theirs, ids, way, NEVER) for ids in sequences]
    assert generate(ours, sequences, tokenizer_of(NEVER), way) == whole
    end = token_that_ends_some(whole)
    expected = [written_by_transformers(theirs, ids, way, end) for ids in sequences]
    assert 0 < sum(len(ids) < LENGTH for ids in expected) < len(sequences)
    assert generate(ours, sequences, tokenizer_of(end), way) == expected


@EVERY_FAMILY
@pytest.mark.parametrize("way", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_an_output_ends_where_the_context_does(
    family: str, way: DecodingConfig, tmp_path: Path, device: torch.device
) -> None:
    theirs = reference(family)
    ours = load_ours(theirs, tmp_path, device)
    prompts = [list(range(1, 1 + length)) for length in (63, 50, 3, 60)]
    found = generate(ours, prompts, tokenizer_of(NEVER), way)
    assert [len(ids) for ids in found] == [1, 14, 16, 4]
    assert found == [written_by_transformers(theirs, ids, way, NEVER) for ids in prompts]


# Independent of other prompts and of memory


@pytest.mark.slow
@EVERY_WAY
def test_memory_bounds_change_no_output(
    model: LanguageModel,
    sequences: Sequences,
    way: DecodingConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = generate(model, sequences, tokenizer_of(5), way)
    for tokens_per_pass in (1, 30, 100):
        found = generate(model, sequences, tokenizer_of(5), way, tokens_per_pass=tokens_per_pass)
        assert found == expected
    monkeypatch.setattr(decoding, "SLICE", 3 * VOCABULARY)
    assert generate(model, sequences, tokenizer_of(5), way) == expected


@pytest.mark.parametrize("way", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_the_order_and_the_company_of_prompts_change_no_output(
    model: LanguageModel, sequences: Sequences, way: DecodingConfig
) -> None:
    expected = generate(model, sequences, tokenizer_of(5), way)
    assert generate(model, sequences[::-1], tokenizer_of(5), way) == expected[::-1]
    for ids, output in zip(sequences, expected, strict=True):
        assert generate(model, [ids], tokenizer_of(5), way) == [output]


def test_prompts_may_be_arrays(model: LanguageModel, sequences: Sequences) -> None:
    arrays = [torch.tensor(ids, dtype=torch.int32).numpy() for ids in sequences]
    expected = generate(model, sequences, tokenizer_of(5), GREEDY)
    assert generate(model, arrays, tokenizer_of(5), GREEDY) == expected
    assert generate(model, [], tokenizer_of(5), GREEDY) == []


def test_dropout_is_off_and_the_mode_is_left_as_it_was(
    model: LanguageModel, sequences: Sequences
) -> None:
    expected = generate(model, sequences, tokenizer_of(5), GREEDY)
    assert not model.training
    model.set_dropout(0.5)
    model.train()
    assert generate(model, sequences, tokenizer_of(5), GREEDY) == expected
    assert model.training and all(module.training for module in model.modules())


# Adapted models


def test_lora_writes_what_the_merged_model_writes(
    model: LanguageModel, sequences: Sequences
) -> None:
    device = next(model.parameters()).device
    plain = generate(model, sequences, tokenizer_of(5), GREEDY)
    generator = torch.Generator().manual_seed(0)
    LoRA(rank=2).adapt(model.cpu(), generator)
    for name, parameter in model.named_parameters():
        if name.endswith(".B"):
            nn.init.normal_(parameter, std=0.1, generator=generator)
    merged = copy.deepcopy(model)
    merge(merged)
    found = generate(model.to(device), sequences, tokenizer_of(5), GREEDY)
    assert found == generate(merged.to(device), sequences, tokenizer_of(5), GREEDY)
    assert found != plain


def test_a_soft_prompt_writes_what_a_plain_loop_over_it_writes(
    model: LanguageModel, sequences: Sequences
) -> None:
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    SoftPrompt(tokens=3, init="gaussian").adapt(model.cpu(), generator)
    nn.init.normal_(model.get_parameter("token_embedding.prompt"), generator=generator)
    model.to(device)
    prompts = [[100, 101, 102, *ids] for ids in sequences]
    way = GREEDY.model_copy(update={"repetition_penalty": 1.3})
    found = generate(model, prompts, tokenizer_of(NEVER), way)
    assert found == [_by_full_forwards(model, ids, way) for ids in prompts]
    bare = generate(model, sequences, tokenizer_of(NEVER), way)
    assert all(ids != other for ids, other in zip(found, bare, strict=True))


def test_a_model_in_bf16_writes_near_what_it_would_alone(
    model: LanguageModel, sequences: Sequences
) -> None:
    model.set_precision(torch.bfloat16)
    for ids, output in zip(
        sequences, generate(model, sequences, tokenizer_of(NEVER), GREEDY), strict=True
    ):
        for length, token in enumerate(output):
            logits = next_logits(model, ids + output[:length])
            assert logits[token] > logits.max() - 0.1


# Work per step


@EVERY_WAY
def test_a_text_that_has_ended_is_computed_no_more(
    model: LanguageModel, sequences: Sequences, way: DecodingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = token_that_ends_some(generate(model, sequences, tokenizer_of(NEVER), way))
    read, scored = _record(model, monkeypatch)
    outputs = generate(model, sequences, tokenizer_of(end), way)
    # The rows of each text in each step after its prompt.
    alone = [[1] * (min(len(ids) + 1, LENGTH) - 1) for ids in outputs]
    if way is BEAMS:
        for index, ids in enumerate(sequences):
            alone[index], _ = _record(model, monkeypatch)
            generate(model, [ids], tokenizer_of(end), way)
            alone[index].pop(0)
            assert set(alone[index]) == {way.num_beams}
    assert len({len(steps) for steps in alone}) > 1
    most = max(len(steps) for steps in alone)
    together = [sum(steps[i] for steps in alone if i < len(steps)) for i in range(most)]
    assert read == [sum(map(len, sequences)), *together]
    assert scored == [len(sequences), *together]


def test_no_more_rows_move_in_the_cache_than_have_left_it(
    model: LanguageModel, sequences: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = token_that_ends_some(generate(model, sequences, tokenizer_of(NEVER), GREEDY))
    moved: list[int] = []
    keep = decoding.Cache.keep

    def recorded(cache: decoding.Cache, rows: list[int]) -> None:
        moves = sum(row != place for place, row in enumerate(rows))
        assert moves <= len(cache.starts) - len(rows)
        moved.append(moves)
        keep(cache, rows)

    monkeypatch.setattr(decoding.Cache, "keep", recorded)
    generate(model, sequences, tokenizer_of(end), GREEDY)
    assert any(moved)


@pytest.mark.parametrize("way", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_memory_is_bounded(
    model: LanguageModel,
    sequences: Sequences,
    way: DecodingConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caches: list[tuple[int, int]] = []

    class Recorded(decoding.Cache):
        def __init__(self, *arguments: Any, **sizes: Any) -> None:
            super().__init__(*arguments, **sizes)
            caches.append((self.max_rows, self.max_width))

    monkeypatch.setattr(decoding, "Cache", Recorded)
    read, _ = _record(model, monkeypatch)
    generate(model, sequences, tokenizer_of(NEVER), way, tokens_per_pass=40)
    assert max(read) <= 40
    assert len(caches) > 1
    for rows, width in caches:
        assert rows == way.num_beams or rows * width <= 4 * 40

    caches.clear()
    monkeypatch.setattr(decoding, "SLICE", 6 * VOCABULARY)
    generate(model, sequences, tokenizer_of(NEVER), way)
    assert max(rows for rows, _ in caches) == 6


# Prompts that are refused


@pytest.mark.parametrize("length", [0, 64, 70])
def test_a_prompt_that_leaves_no_room_is_named(model: LanguageModel, length: int) -> None:
    with pytest.raises(ModelError, match=f"prompt 1 has {length} tokens.* 1 to 63 "):
        generate(model, [[1], [1] * length], tokenizer_of(NEVER), GREEDY)


def _by_full_forwards(model: LanguageModel, ids: list[int], way: DecodingConfig) -> list[int]:
    """Return the greedy output for one prompt, with every token computed anew at every step."""
    output: list[int] = []
    for _ in range(way.max_new_tokens):
        logits = next_logits(model, ids + output)
        for token in {token for token in ids + output if token < VOCABULARY}:
            factor = way.repetition_penalty
            logits[token] *= factor if logits[token] < 0 else 1 / factor
        output.append(int(logits.argmax()))
    return output


def _record(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[int]]:
    """Return lists that grow with the tokens of every forward pass and the rows it scores."""
    read: list[int] = []
    scored: list[int] = []

    def scored_hidden(batch: Batch, cache: Cache) -> Tensor:
        read.append(len(batch.tokens))
        return type(model).scored_hidden(model, batch, cache)

    def next_hidden(tokens: Tensor, cache: Cache) -> Tensor:
        read.append(len(tokens))
        return type(model).next_hidden(model, tokens, cache)

    def logits(states: Tensor) -> Tensor:
        scored.append(len(states))
        return type(model).logits(model, states)

    monkeypatch.setattr(model, "scored_hidden", scored_hidden)
    monkeypatch.setattr(model, "next_hidden", next_hidden)
    monkeypatch.setattr(model, "logits", logits)
    return read, scored
