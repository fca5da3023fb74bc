"""Laws of writing on from prompts; what a text gets is what transformers would give it, alone."""

import copy
from collections import Counter
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from pydantic import ValidationError
from tiny import batch_of
from tokenizers import models, pre_tokenizers
from torch import Tensor, nn
from transformers.generation import logits_process

from tunewise.data.packing import Batch
from tunewise.data.tokenizer import Tokenizer, byte_level
from tunewise.errors import ModelError
from tunewise.generation import generate as decoding
from tunewise.generation.generate import DecodingConfig, filtered, generate, penalised, text_of
from tunewise.methods.lora import LoRA
from tunewise.methods.method import merge
from tunewise.methods.soft_prompt import SoftPrompt
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.cache import Cache
from tunewise.models.folder import load_model

Reference = Callable[..., nn.Module]
Sequences = list[list[int]]

VOCABULARY = 100
NEVER = VOCABULARY
"""An end-of-text token that the tiny models do not know, so that no output ends with it."""
LENGTH = 16

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
GREEDY = DecodingConfig(max_new_tokens=LENGTH)
SAMPLED = GREEDY.model_copy(update={"temperature": 1.0, "top_k": 50, "top_p": 0.95})
BEAMS = GREEDY.model_copy(update={"num_beams": 3, "repetition_penalty": 1.2})
EVERY_WAY = pytest.mark.parametrize(
    "way", [GREEDY, SAMPLED, BEAMS], ids=["greedy", "sampled", "beams"]
)


# What transformers writes


@EVERY_FAMILY
@pytest.mark.parametrize("penalty", [1.0, 1.3, 0.8])
def test_greedy_outputs_are_those_of_transformers(
    family: str,
    penalty: float,
    reference: Reference,
    sequences: Sequences,
    tmp_path: Path,
    device: torch.device,
) -> None:
    theirs = reference(family)
    ours = _ours(theirs, tmp_path, device)
    way = GREEDY.model_copy(update={"repetition_penalty": penalty})
    whole = [_theirs(theirs, ids, way, NEVER) for ids in sequences]
    assert generate(ours, sequences, _tokenizer(NEVER), way) == whole
    end = _token_that_ends_some(whole)
    expected = [_theirs(theirs, ids, way, end) for ids in sequences]
    assert 0 < sum(len(ids) < LENGTH for ids in expected) < len(sequences)
    assert generate(ours, sequences, _tokenizer(end), way) == expected


@EVERY_FAMILY
@pytest.mark.parametrize("num_beams", [2, 3, 4])
def test_beam_outputs_are_those_of_transformers(
    family: str,
    num_beams: int,
    reference: Reference,
    sequences: Sequences,
    tmp_path: Path,
    device: torch.device,
) -> None:
    theirs = reference(family)
    ours = _ours(theirs, tmp_path, device)
    prompts = sequences[:3]
    greedy = generate(ours, prompts, _tokenizer(NEVER), GREEDY)
    ends = [token for token, _ in Counter(chain(*greedy)).most_common(2)]
    written = set()
    for end in (NEVER, *ends):
        for length_penalty in (-1.0, 0.0, 1.0, 2.0):
            way = GREEDY.model_copy(
                update={"num_beams": num_beams, "length_penalty": length_penalty}
            )
            expected = [_theirs(theirs, ids, way, end) for ids in prompts]
            assert generate(ours, prompts, _tokenizer(end), way) == expected
            written.add(str(expected))
    assert len(written) > 4, "neither the end nor the length penalty made a difference"


@EVERY_FAMILY
def test_penalised_beams_are_those_of_transformers(
    family: str, reference: Reference, sequences: Sequences, tmp_path: Path, device: torch.device
) -> None:
    theirs = reference(family)
    ours = _ours(theirs, tmp_path, device)
    expected = [_theirs(theirs, ids, BEAMS, NEVER) for ids in sequences]
    assert generate(ours, sequences, _tokenizer(NEVER), BEAMS) == expected


@EVERY_FAMILY
@pytest.mark.parametrize("way", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_an_output_ends_where_the_context_does(
    family: str, way: DecodingConfig, reference: Reference, tmp_path: Path, device: torch.device
) -> None:
    theirs = reference(family)
    ours = _ours(theirs, tmp_path, device)
    prompts = [list(range(1, 1 + length)) for length in (63, 50, 3, 60)]
    found = generate(ours, prompts, _tokenizer(NEVER), way)
    assert [len(ids) for ids in found] == [1, 14, 16, 4]
    assert found == [_theirs(theirs, ids, way, NEVER) for ids in prompts]


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
    torch.testing.assert_close(filtered(logits.to(device), way).cpu(), expected)


def test_repetition_is_penalised_as_in_transformers(device: torch.device) -> None:
    logits = torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 2], [5, 6, 7], [8, 8, 8], [0, 99, 3]])
    seen = torch.zeros(4, VOCABULARY, dtype=torch.bool).scatter(1, ids, True)
    expected = logits_process.RepetitionPenaltyLogitsProcessor(1.7)(ids, logits)
    assert torch.equal(penalised(logits.to(device), seen.to(device), 1.7).cpu(), expected)


# What an output does not depend on


@EVERY_WAY
def test_memory_bounds_change_no_output(
    model: LanguageModel,
    sequences: Sequences,
    way: DecodingConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = generate(model, sequences, _tokenizer(5), way)
    for tokens_per_pass in (1, 30, 100):
        found = generate(model, sequences, _tokenizer(5), way, tokens_per_pass=tokens_per_pass)
        assert found == expected
    monkeypatch.setattr(decoding, "SLICE", 3 * VOCABULARY)
    assert generate(model, sequences, _tokenizer(5), way) == expected


@pytest.mark.parametrize("way", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_the_order_and_the_company_of_prompts_change_no_output(
    model: LanguageModel, sequences: Sequences, way: DecodingConfig
) -> None:
    expected = generate(model, sequences, _tokenizer(5), way)
    assert generate(model, sequences[::-1], _tokenizer(5), way) == expected[::-1]
    for ids, output in zip(sequences, expected, strict=True):
        assert generate(model, [ids], _tokenizer(5), way) == [output]


def test_what_is_drawn_depends_on_the_seed_and_the_place_of_a_prompt_alone(
    model: LanguageModel, sequences: Sequences
) -> None:
    outputs = generate(model, sequences, _tokenizer(5), SAMPLED, seed=1)
    torch.manual_seed(99)
    assert generate(model, sequences, _tokenizer(5), SAMPLED, seed=1) == outputs
    assert generate(model, sequences[:4], _tokenizer(5), SAMPLED, seed=1) == outputs[:4]
    others = generate(model, sequences, _tokenizer(5), SAMPLED, seed=2)
    assert all(ids != other for ids, other in zip(outputs, others, strict=True))
    same = generate(model, [[1, 2, 3]] * 4, _tokenizer(NEVER), SAMPLED)
    assert len({str(ids) for ids in same}) == 4


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-9}], ids=["top_k", "top_p"])
def test_a_draw_from_the_likeliest_token_alone_is_greedy(
    model: LanguageModel, sequences: Sequences, narrow: dict[str, Any]
) -> None:
    way = GREEDY.model_copy(update={"temperature": 1.5, "repetition_penalty": 1.2, **narrow})
    greedy = GREEDY.model_copy(update={"repetition_penalty": 1.2})
    expected = generate(model, sequences, _tokenizer(5), greedy)
    assert generate(model, sequences, _tokenizer(5), way) == expected


def test_prompts_may_be_arrays(model: LanguageModel, sequences: Sequences) -> None:
    arrays = [torch.tensor(ids, dtype=torch.int32).numpy() for ids in sequences]
    expected = generate(model, sequences, _tokenizer(5), GREEDY)
    assert generate(model, arrays, _tokenizer(5), GREEDY) == expected
    assert generate(model, [], _tokenizer(5), GREEDY) == []


def test_dropout_is_off_and_the_mode_is_left_as_it_was(
    model: LanguageModel, sequences: Sequences
) -> None:
    expected = generate(model, sequences, _tokenizer(5), GREEDY)
    assert not model.training
    model.set_dropout(0.5)
    model.train()
    assert generate(model, sequences, _tokenizer(5), GREEDY) == expected
    assert model.training and all(module.training for module in model.modules())


# What is drawn


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
    drawn = Counter(ids[0] for ids in generate(model, [prompt] * num_draws, _tokenizer(NEVER), way))
    expected = num_draws * filtered(_logits(model, prompt)[None], way).softmax(-1)[0].cpu()
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
    outputs = generate(model, [[1]] * 30, _tokenizer(NEVER), way)
    repeated = sum(first == second for ids in outputs for first, second in pairwise(ids))
    alike = sum(
        token == other for pair in pairwise(outputs) for token, other in zip(*pair, strict=True)
    )
    assert repeated < 25 and alike < 25, "870 pairs of tokens, of which one in 100 is equal"


# Models that are adapted


def test_lora_writes_what_the_merged_model_writes(
    model: LanguageModel, sequences: Sequences
) -> None:
    device = next(model.parameters()).device
    plain = generate(model, sequences, _tokenizer(5), GREEDY)
    generator = torch.Generator().manual_seed(0)
    LoRA(rank=2).adapt(model.cpu(), generator)
    for name, parameter in model.named_parameters():
        if name.endswith(".B"):
            nn.init.normal_(parameter, std=0.1, generator=generator)
    merged = copy.deepcopy(model)
    merge(merged)
    found = generate(model.to(device), sequences, _tokenizer(5), GREEDY)
    assert found == generate(merged.to(device), sequences, _tokenizer(5), GREEDY)
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
    found = generate(model, prompts, _tokenizer(NEVER), way)
    assert found == [_by_full_forwards(model, ids, way) for ids in prompts]
    bare = generate(model, sequences, _tokenizer(NEVER), way)
    assert all(ids != other for ids, other in zip(found, bare, strict=True))


def test_a_model_in_bf16_writes_near_what_it_would_alone(
    model: LanguageModel, sequences: Sequences
) -> None:
    model.set_precision(torch.bfloat16)
    for ids, output in zip(
        sequences, generate(model, sequences, _tokenizer(NEVER), GREEDY), strict=True
    ):
        for length, token in enumerate(output):
            logits = _logits(model, ids + output[:length])
            assert logits[token] > logits.max() - 0.1


# What is computed


@EVERY_WAY
def test_a_text_that_has_ended_is_computed_no_more(
    model: LanguageModel, sequences: Sequences, way: DecodingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = _token_that_ends_some(generate(model, sequences, _tokenizer(NEVER), way))
    read, scored = _record(model, monkeypatch)
    outputs = generate(model, sequences, _tokenizer(end), way)
    # The rows of each text in each step after its prompt.
    alone = [[1] * (min(len(ids) + 1, LENGTH) - 1) for ids in outputs]
    if way is BEAMS:
        for index, ids in enumerate(sequences):
            alone[index], _ = _record(model, monkeypatch)
            generate(model, [ids], _tokenizer(end), way)
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
    end = _token_that_ends_some(generate(model, sequences, _tokenizer(NEVER), GREEDY))
    moved: list[int] = []
    keep = decoding.Cache.keep

    def recorded(cache: decoding.Cache, rows: list[int]) -> None:
        moves = sum(row != place for place, row in enumerate(rows))
        assert moves <= len(cache.starts) - len(rows)
        moved.append(moves)
        keep(cache, rows)

    monkeypatch.setattr(decoding.Cache, "keep", recorded)
    generate(model, sequences, _tokenizer(end), GREEDY)
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
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            caches.append((self.max_rows, self.max_width))

    monkeypatch.setattr(decoding, "Cache", Recorded)
    read, _ = _record(model, monkeypatch)
    generate(model, sequences, _tokenizer(NEVER), way, tokens_per_pass=40)
    assert max(read) <= 40
    assert len(caches) > 1
    for rows, width in caches:
        assert rows == way.num_beams or rows * width <= 4 * 40

    caches.clear()
    monkeypatch.setattr(decoding, "SLICE", 6 * VOCABULARY)
    generate(model, sequences, _tokenizer(NEVER), way)
    assert max(rows for rows, _ in caches) == 6


# Where an output ends


@pytest.mark.parametrize("kind", ["letters", "bytes", "split characters"])
def test_a_text_is_cut_exactly_before_any_string_it_holds(model: LanguageModel, kind: str) -> None:
    tokenizer = _tokenizer(NEVER, kind)
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
    tokenizer = _tokenizer(NEVER, "letters")
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


@EVERY_FAMILY
@pytest.mark.parametrize("num_beams", [2, 4])
def test_a_stop_string_ends_a_beam_as_in_transformers(
    family: str,
    num_beams: int,
    reference: Reference,
    sequences: Sequences,
    tmp_path: Path,
    device: torch.device,
) -> None:
    theirs = reference(family)
    ours = _ours(theirs, tmp_path, device)
    tokenizer = _tokenizer(NEVER, "letters")
    ending = range(0, VOCABULARY, 2)  # half of all tokens, so that beams run out
    way = DecodingConfig(
        max_new_tokens=5, num_beams=num_beams, stop=tuple(tokenizer.decode([t]) for t in ending)
    )

    def ends(ids: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.isin(ids[:, -1], torch.tensor(ending))

    expected = [_theirs(theirs, ids, way, NEVER, [ends]) for ids in sequences]
    found = generate(ours, sequences, tokenizer, way)
    assert found == [ids[:-1] if ids[-1] in ending else ids for ids in expected]
    assert len({len(ids) for ids in found}) > 2


@pytest.mark.parametrize("length", [0, 64, 70])
def test_a_prompt_that_leaves_no_room_is_named(model: LanguageModel, length: int) -> None:
    with pytest.raises(ModelError, match=f"prompt 1 has {length} tokens.* 1 to 63 "):
        generate(model, [[1], [1] * length], _tokenizer(NEVER), GREEDY)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_beams": 2, "temperature": 0.7}, "beams take the likeliest tokens"),
        ({"stop": ["x", ""]}, "an empty string would end every output"),
        ({"top_p": 0.0}, "greater than 0"),
        ({"top_k": 0}, "greater than 0"),
        ({"max_new_tokens": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DecodingConfig(**values)


def _ours(theirs: nn.Module, folder: Path, device: torch.device) -> LanguageModel:
    theirs.save_pretrained(folder)
    return load_model(folder).to(device).eval()


def _theirs(
    theirs: Any, ids: list[int], way: DecodingConfig, end: int, criteria: list[Any] | None = None
) -> list[int]:
    """Return what transformers writes after one prompt."""
    settings = transformers.GenerationConfig(
        max_length=min(len(ids) + way.max_new_tokens, 64),
        do_sample=False,
        num_beams=way.num_beams,
        length_penalty=way.length_penalty,
        repetition_penalty=way.repetition_penalty,
        early_stopping=False,
        eos_token_id=end,
        pad_token_id=0,
    )
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        whole = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=settings,
            stopping_criteria=criteria,
        )
    new: list[int] = whole[0, len(ids) :].tolist()
    return new[: new.index(end)] if end in new else new


def _by_full_forwards(model: LanguageModel, ids: list[int], way: DecodingConfig) -> list[int]:
    """Return the greedy output for one prompt, with every token computed anew at every step."""
    output: list[int] = []
    for _ in range(way.max_new_tokens):
        logits = _logits(model, ids + output)
        for token in {token for token in ids + output if token < VOCABULARY}:
            factor = way.repetition_penalty
            logits[token] *= factor if logits[token] < 0 else 1 / factor
        output.append(int(logits.argmax()))
    return output


@torch.no_grad()
def _logits(model: LanguageModel, ids: list[int]) -> Tensor:
    """Return the logits (V,) of what follows."""
    device = next(model.parameters()).device
    hidden = model.hidden(batch_of(ids).to(device))
    return model.logits(hidden[-1:])[0].float()


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


def _token_that_ends_some(outputs: Sequences) -> int:
    """Return a token that is in some outputs, not in all, and is the first of none."""
    counts = Counter(token for ids in outputs for token in set(ids[1:]))
    firsts = {ids[0] for ids in outputs}
    return next(
        token
        for token, count in counts.most_common()
        if count < len(outputs) and token not in firsts
    )


def _tokenizer(end: int, kind: str = "letters") -> Tokenizer:
    """Return a tokenizer of 100 tokens, and one to end a text with if that is not among them.

    Args:
        kind: what a token is: two letters, one byte, or a character's end and another's start.
    """
    if kind == "letters":
        pieces = [first + second for first in "abcdefghij" for second in "klmnopqrst"]
    elif kind == "bytes":
        pieces = [_bytes_of(chr(code)) for code in range(20, 120)]
    else:
        characters = [_bytes_of(chr(0xC0 + index)) for index in range(128)]  # of two bytes each
        pieces = [characters[index][1] + characters[index][0] for index in range(100)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "end"])}
    return Tokenizer(byte_level(models.BPE(vocabulary, [])), [*pieces, "end"][end])


def _bytes_of(text: str) -> str:
    """Return the bytes of a text as a byte-level vocabulary writes them, a character each."""
    return "".join(
        part for part, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    )
