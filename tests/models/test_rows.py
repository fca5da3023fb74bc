"""States of some tokens alone are those that a pass returns which computes all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import draw_weights, every_family, tiny_config

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.methods import METHODS
from tunewise.models import LanguageModel
from tunewise.models.cache import Cache
from tunewise.models.folder import build_model

SIZES = {"vocabulary_size": 260, "context_length": 64, "model_dim": 24, "num_heads": 3}
LENGTHS = (3, 11, 7, 7, 1, 12)


def new_model(family: str, method: str, tokenizer: Tokenizer) -> LanguageModel:
    model = build_model(tiny_config(family, **SIZES), "cpu")
    generator = torch.Generator().manual_seed(0)
    draw_weights(model, 0.2, generator)
    METHODS[method]().adapt(model, generator, tokenizer)
    return model


def packed(labelled: bool) -> Batch:
    chance = np.random.default_rng(0)
    ids = [chance.integers(0, 256, size=length).astype(np.int32) for length in LENGTHS]
    sequences = [
        Encoded(str(n), part, len(part) if labelled else 1 + n % 3, 0 if labelled else None)
        for n, part in enumerate(ids)
    ]
    (batch,) = pack(sequences, 1000)
    return batch


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("labelled", [False, True], ids=["text", "labels"])
@every_family
@pytest.mark.parametrize("method", METHODS)
def test_values_and_gradients(
    method: str, family: str, labelled: bool, checkpointing: bool, tokenizer: Tokenizer
) -> None:
    model, batch = new_model(family, method, tokenizer), packed(labelled)
    model.checkpointing = checkpointing
    every, some = model.hidden(batch)[batch.scored], model.scored_hidden(batch)
    torch.testing.assert_close(some, every, rtol=1e-5, atol=1e-5)
    weight = torch.randn(every.shape, generator=torch.Generator().manual_seed(1))
    trained = [(name, p) for name, p in model.trainable() if "head" not in name]
    if not trained:
        assert not some.requires_grad
        return
    parameters = [parameter for _, parameter in trained]
    wanted = torch.autograd.grad((every * weight).sum(), parameters, allow_unused=True)
    found = torch.autograd.grad((some * weight).sum(), parameters, allow_unused=True)
    for (name, _), one, other in zip(trained, found, wanted, strict=True):
        if one is None or other is None:
            assert one is other, name
        else:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, msg=name)


@every_family
def test_the_cache_keeps_all_tokens(family: str, tokenizer: Tokenizer) -> None:
    model = new_model(family, "full", tokenizer).eval()
    batch = packed(labelled=True)
    after = torch.arange(len(LENGTHS))
    found = []
    for hidden in (model.hidden, model.scored_hidden):
        cache = Cache(3, list(LENGTHS), 2, len(LENGTHS), torch.device("cpu"))
        with torch.inference_mode():
            hidden(batch, cache)
            found.append(model.next_hidden(after, cache))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@every_family
def test_going_on_from_frozen_blocks(family: str, depth: int, tokenizer: Tokenizer) -> None:
    model, batch = new_model(family, "full", tokenizer), packed(labelled=False)
    for part in (model.token_embedding, model.position_embedding, *model.blocks[:depth]):
        if part is not None:
            part.requires_grad_(False)
    if depth > len(model.blocks):
        model.final_norm.requires_grad_(False)
    assert model.frozen_depth == depth
    known = replace(batch, states=model.frozen_states(batch))
    found = model.scored_hidden(known)
    torch.testing.assert_close(found, model.hidden(batch)[batch.scored])


def test_the_last_block_computes_no_others(tokenizer: Tokenizer) -> None:
    model, batch = new_model("gpt2", "full", tokenizer), packed(labelled=True)
    seen: dict[str, int] = {}
    for name in ("attention.query", "attention.out", "feed_forward.up", "feed_forward.down"):
        layer = model.blocks[-1].get_submodule(name)
        layer.register_forward_hook(lambda _m, x, _y, name=name: seen.update({name: len(x[0])}))
    model.scored_hidden(batch)
    num_tokens, num_rows = sum(LENGTHS), len(LENGTHS)
    assert list(seen.values()) == [num_tokens, num_rows, num_rows, num_rows]
