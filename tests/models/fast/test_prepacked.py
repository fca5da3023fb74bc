"""Prepacked weights give the products of plain ones, and are gone when they are not wanted."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from tunewise.config import make_config
from tunewise.data.packing import Batch
from tunewise.data.tokenizer import Tokenizer
from tunewise.generation import generate as decoding
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.methods import METHODS
from tunewise.models import LanguageModel
from tunewise.models.fast.prepacked import prepack, prepacked
from tunewise.models.layers import Linear

Packed = Callable[..., Batch]
Sequences = list[list[int]]

LORA = {"kind": "lora", "rank": 4}
DORA = {"kind": "lora", "dora": True}
EVERY_METHOD = [{"kind": kind} for kind in METHODS]
HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no types here
HAS_BF16 = HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()
BF16 = pytest.param(
    torch.bfloat16, marks=pytest.mark.skipif(not HAS_BF16, reason="no bf16 in oneDNN here")
)
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)

pytestmark = pytest.mark.skipif(not HAS_ONEDNN, reason="PyTorch without oneDNN")


def layers_of(model: LanguageModel) -> list[Linear]:
    return [layer for layer in model.modules() if isinstance(layer, Linear)]


def read(model: LanguageModel, packed: Packed, sequences: Sequences) -> Tensor:
    batch = packed(sequences)
    with torch.inference_mode():
        return model.logits(model.hidden(batch))


def adapted(
    model: LanguageModel, dtype: torch.dtype, method: dict[str, Any] = LORA
) -> LanguageModel:
    """Return the model, on the processor, adapted by a method that does something."""
    config = make_config(fields={"task": {"kind": "language_modeling"}, "method": method})
    config.method.adapt(model.cpu(), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for _, parameter in model.trainable():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.set_precision(dtype)
    return model


@PRECISIONS
def test_products_are_those_of_plain_weights(
    model: LanguageModel, packed: Packed, sequences: Sequences, dtype: torch.dtype
) -> None:
    adapted(model, dtype)
    plain = read(model, packed, sequences)
    with prepacked(model):
        assert all(layer.prepacked is not None for layer in layers_of(model))
        found = read(model, packed, sequences)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found, plain, rtol=tolerance, atol=tolerance)


@PRECISIONS
@pytest.mark.parametrize("num_tokens", [1, 3, 64, 200])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_within_rounding_of_a_product_in_float64(
    dtype: torch.dtype, num_tokens: int, bias: bool, model: LanguageModel
) -> None:
    layer = Linear(48, 257, bias=bias)
    model.head, model.compute_dtype = layer, dtype
    x = torch.randn(num_tokens, 48).to(dtype)
    weight = layer.weight.to(dtype).double()
    expected = x.double() @ weight.T + (layer.bias.to(dtype).double() if bias else 0)
    with torch.inference_mode(), prepacked(model.cpu()):
        found = layer(x).double()
    assert (found - expected).abs().max() < 4 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize("method", [*EVERY_METHOD, DORA], ids=str)
def test_what_is_written_is_the_same(
    method: dict[str, Any],
    model: LanguageModel,
    sequences: Sequences,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapted(model, torch.float32, method)
    way = DecodingConfig(max_new_tokens=8)
    found = generate(model, sequences, tokenizer, way)
    monkeypatch.setattr(decoding, "prepacked", lambda model: nullcontext())
    assert generate(model, sequences, tokenizer, way) == found


@pytest.mark.parametrize("method", [{"kind": "full"}, DORA], ids=str)
def test_nothing_is_left_after_writing_so_that_training_is_seen(
    method: dict[str, Any], model: LanguageModel, sequences: Sequences, tokenizer: Tokenizer
) -> None:
    way = DecodingConfig(max_new_tokens=8)
    adapted(model, torch.float32, method)
    before = generate(model, sequences, tokenizer, way)
    assert all(layer.prepacked is None for layer in layers_of(model))
    with torch.no_grad():
        for _, parameter in model.trainable():
            parameter.mul_(-1.5)
    assert generate(model, sequences, tokenizer, way) != before


@PRECISIONS
def test_frozen_weights_are_there_once_and_come_back_bit_for_bit(
    model: LanguageModel, packed: Packed, sequences: Sequences, dtype: torch.dtype
) -> None:
    adapted(model, dtype)
    model.blocks[0].feed_forward.up.base.weight.requires_grad_(True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.inference_mode(), prepacked(model):
        held = sum(p.numel() for p in model.parameters())
    packed_numbers = sum(layer.in_dim * layer.out_dim for layer in layers_of(model))
    assert held < sum(tensor.numel() for tensor in before.values()) - packed_numbers / 2
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    batch = packed(sequences)
    hidden = model.hidden(batch)
    model.logits(hidden).float().sum().backward()  # weights of inference mode would refuse


def test_nothing_is_left_after_an_error(model: LanguageModel) -> None:
    with pytest.raises(RuntimeError, match="stop"), prepacked(model.cpu()):
        raise RuntimeError("stop")
    assert all(layer.prepacked is None for layer in layers_of(model))


def test_what_was_prepacked_before_stays_so(model: LanguageModel) -> None:
    prepack(model.cpu())
    first = [layer.prepacked for layer in layers_of(model)]
    assert None not in first
    with prepacked(model):
        pass
    assert all(layer.prepacked is copy for layer, copy in zip(layers_of(model), first, strict=True))


def test_layers_that_share_a_weight_share_its_copy(model: LanguageModel) -> None:
    one, other, *_ = layers_of(model.cpu())
    other.weight = one.weight
    prepack(model)
    assert other.prepacked is one.prepacked


def test_other_precisions_are_multiplied_as_they_are(model: LanguageModel) -> None:
    model.cpu().set_precision(torch.float64)
    prepack(model)
    assert all(layer.prepacked is None for layer in layers_of(model))


def test_a_checkpoint_does_not_hold_copies(model: LanguageModel) -> None:
    names = model.state_dict().keys()
    prepack(model.cpu())
    assert model.state_dict().keys() == names
