"""A model that reads token by token through a cache computes what it does in one piece."""

from collections.abc import Callable

import torch
from torch import Tensor

from tunewise.data.packing import Batch
from tunewise.models import LanguageModel
from tunewise.models.cache import Cache
from tunewise.models.language_model import initialise

Packed = Callable[..., Batch]
Sequences = list[list[int]]

KEPT = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],  # all in their places
    [0, 9, 2, 8, 4, 5, 6, 7],  # two gone, the last in their place
    [6, 5, 4, 3, 2, 1, 0],  # turned round, one gone
    [3, 3, 3, 0, 0, 1, 1, 1, 1, 2],  # some twice
    [9, 0],
    [1],
    [0, 0, 0],
    [2, 1, 0],
]


def test_what_is_read_through_a_cache_is_what_is_read_at_once(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    _assert_cached_equals_uncached(model, packed, sequences, atol=1e-4)


def test_it_is_so_in_bf16_up_to_its_rounding(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    device = next(model.parameters()).device
    initialise(model.cpu(), torch.Generator().manual_seed(0))
    model.to(device).set_precision(torch.bfloat16)
    _assert_cached_equals_uncached(model, packed, sequences, atol=0.01)


def test_rows_of_equal_length_need_no_mask(model: LanguageModel, packed: Packed) -> None:
    prompts = [[1, 2, 3], [4, 5, 6]]
    cache, _ = _read(model, packed, prompts)
    cache.advance()
    assert [part.mask for part in cache.parts] == [None]
    _assert_cached_equals_uncached(model, packed, prompts, atol=1e-4, kept=[[0, 1], [1, 0], [1]])


def test_columns_that_no_row_uses_any_more_are_left_out(
    model: LanguageModel, packed: Packed
) -> None:
    cache, _ = _read(model, packed, [[1], [1, 2, 3], list(range(1, 30))])
    cache.keep([0, 1])
    cache.advance()
    (part,) = cache.parts
    assert part.mask is not None and part.mask.shape == (2, 1, 1, 4)


@torch.inference_mode()
def _assert_cached_equals_uncached(
    model: LanguageModel,
    packed: Packed,
    prompts: Sequences,
    atol: float,
    kept: list[list[int]] = KEPT,
) -> None:
    """Let rows stay, go, move and double between steps, and compare all logits of each step."""
    generator = torch.Generator().manual_seed(2)
    rows = sorted(prompts, key=len)
    cache, logits = _read(model, packed, rows)
    _compare(logits, model, packed, rows, atol)
    for kept_rows in kept:
        new = torch.randint(100, (len(kept_rows),), generator=generator)
        rows = [[*rows[row], int(token)] for row, token in zip(kept_rows, new, strict=True)]
        cache.keep(kept_rows)
        hidden = model.next_hidden(new.to(cache.device), cache)
        _compare(model.logits(hidden), model, packed, rows, atol)


@torch.inference_mode()
def _read(model: LanguageModel, packed: Packed, prompts: Sequences) -> tuple[Cache, Tensor]:
    """Return a cache that holds prompts, read in two passes, and the logits after each."""
    device = next(model.parameters()).device
    lengths = [len(ids) for ids in prompts]
    sizes = {"room": len(KEPT), "max_rows": 2 * len(prompts)}
    cache = Cache(model.config.num_layers, lengths, **sizes, device=device)
    logits = []
    for part in (prompts[:2], prompts[2:]):
        if part:
            batch = packed(part)
            hidden = model.hidden(batch, cache)
            ends = torch.tensor([len(ids) for ids in part]).cumsum(0) - 1
            logits.append(model.logits(hidden[ends.to(device)]))
    return cache, torch.cat(logits)


def _compare(
    logits: Tensor, model: LanguageModel, packed: Packed, rows: Sequences, atol: float
) -> None:
    for found, ids in zip(logits, rows, strict=True):
        batch = packed([ids])
        hidden = model.hidden(batch)
        torch.testing.assert_close(found, model.logits(hidden[-1:])[0], atol=atol, rtol=0)
