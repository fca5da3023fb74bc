"""(IA)³: vectors of ones that learn to scale."""

from pathlib import Path

import pytest
import torch
from tiny import batch_of, every_family

from tunewise.methods.ia3 import IA3, ScaledLinear
from tunewise.models.folder import load_model
from tunewise.models.layers import Linear


@every_family
@torch.no_grad()
def test_fresh_vectors_change_nothing(family: str, folders: dict[str, Path]) -> None:
    model = load_model(folders[family]).eval()
    tokens = torch.arange(9)
    before = model.hidden(batch_of(tokens))
    IA3().adapt(model, torch.Generator())
    assert torch.equal(model.hidden(batch_of(tokens)), before)


def test_there_is_a_vector_for_keys_values_and_inner_activations_of_each_block(
    folders: dict[str, Path],
) -> None:
    model = load_model(folders["gpt2"])
    IA3().adapt(model, torch.Generator())
    assert {name: tuple(p.shape) for name, p in model.trainable()} == {
        f"blocks.{index}.{path}.scale": shape
        for index in range(3)
        for path, shape in (
            ("attention.key", (16,)),
            ("attention.value", (16,)),
            ("feed_forward.down", (64,)),
        )
    }


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_merged_layer_computes_the_same_and_shares_nothing(side: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer = ScaledLinear(Linear(5, 7, bias=bias), "input" if side == "input" else "output")
    layer.scale.normal_()
    x = torch.randn(11, 5)
    merged = layer.merged()
    expected = layer(x)
    torch.testing.assert_close(merged(x), expected)
    for parameter in merged.parameters():
        parameter.zero_()
    assert torch.equal(layer(x), expected)
