"""Laws of the rehearsal: nothing is computed, and the counts are those of the real code."""

import pytest
import torch
from tiny import draw_weights, tiny_config
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tunewise.data.encode import Encoded
from tunewise.data.tokenizer import Tokenizer
from tunewise.estimate.rehearsal import Rehearsal
from tunewise.methods import METHODS
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 2048, bias=False), nn.ReLU(), nn.Linear(2048, 512))


def test_memory_and_work_of_two_layers_are_those_of_the_formula() -> None:
    x, model = torch.ones(256, 512), net()
    with Rehearsal() as rehearsal:
        loss = model(x).sum()
        loss.backward()
    products = [operation for operation in rehearsal.operations if operation.num_flops]
    # Forward two; backward two for weights and one for the second layer's input.
    assert sum(operation.num_flops for operation in products) == 5 * 2 * 256 * 512 * 2048
    gradients = sum(p.numel() for p in model.parameters()) * 4
    assert rehearsal.held_bytes == gradients + loss.nbytes
    kept = 2 * 256 * 2048 * 4 + 256 * 512 * 4  # both sides of the activation, and the output
    assert kept < rehearsal.peak_bytes < kept + gradients
    del loss
    model.zero_grad(set_to_none=True)
    assert rehearsal.held_bytes == 0


def test_weights_are_not_changed_and_nothing_is_touched() -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with Rehearsal() as rehearsal:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        model(torch.empty(2**20, 512)).sum().backward()  # 12 GiB
        optimizer.step()
    assert rehearsal.peak_bytes > 8 * 2**30
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_mask_chooses_as_many_rows_as_it_has() -> None:
    mask = torch.tensor([True, False, True, True])
    with Rehearsal():
        chosen = torch.ones(4, 3, requires_grad=True)[mask]
    assert chosen.shape == (3, 3)


def tiny() -> LanguageModel:
    sizes = {"vocabulary_size": 1000, "context_length": 64, "model_dim": 64, "num_heads": 4}
    model = build_model(tiny_config(**sizes, mlp_dim=256), "cpu")
    draw_weights(model, 0.02)
    return model


def sequences(count: int) -> list[Encoded]:
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, (count, 32), generator=chance).numpy().astype("int32")
    return [Encoded(str(row), part, 1) for row, part in enumerate(ids)]


@pytest.mark.parametrize("kind", METHODS)
def test_an_update_takes_what_the_profiler_sees(kind: str, tokenizer: Tokenizer) -> None:
    """PyTorch's own profiler, of the real update, is the reference."""
    config = TrainConfig(epochs=1, batch_size=64, learning_rate=1e-3)

    def update(model: LanguageModel) -> None:
        list(train(model, sequences(64), config, seed=0))

    def adapted() -> LanguageModel:
        model = tiny()
        METHODS[kind]().adapt(model, torch.Generator().manual_seed(0), tokenizer)
        return model

    update(adapted())  # what is made once is not counted
    with Rehearsal() as rehearsal:
        update(adapted())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        update(adapted())
    held = peak = 0
    for event in profiled.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert rehearsal.peak_bytes == pytest.approx(peak, rel=0.08)


def test_the_arithmetic_of_full_fine_tuning_is_six_times_weights_times_tokens() -> None:
    """The rule of https://arxiv.org/abs/2001.08361, section 2.1, exactly: without attention."""
    model = tiny()
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)
    with Rehearsal() as rehearsal:
        list(train(model, sequences(8), TrainConfig(epochs=1, learning_rate=1e-3), seed=0))
    products = [o for o in rehearsal.operations if o.shapes and o.shapes[0].numel() > 0]
    attention = [o for o in products if len(o.shapes[0]) == 4]
    found = sum(o.num_flops for o in products) - sum(o.num_flops for o in attention)
    last = model.blocks[-1]
    # After attention, the last block computes what is scored: all but the last of 32 tokens.
    layers = ("attention.out", "feed_forward.up", "feed_forward.down")
    unread = 8 * sum(last.get_submodule(name).weight.numel() for name in layers)
    assert found == 6 * (8 * 32 * matrices - unread + 8 * 31 * 1000 * 64)
    # Two products forward and five backward, half of each masked.
    assert sum(o.num_flops for o in attention) == 3 * 7 * 8 * 32 * 32 * 64
