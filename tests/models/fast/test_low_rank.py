"""A product and its update of low rank in one step are the plain formula of LoRA and DoRA."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tunewise.methods.lora_layers import DoRALinear, LoRALinear
from tunewise.models.layers import Linear

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}

both_kinds = pytest.mark.parametrize("kind", [LoRALinear, DoRALinear])
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE)
with_and_without_bias = pytest.mark.parametrize("bias", [True, False])


def filled(kind: type[LoRALinear], dtype: torch.dtype, bias: bool, dropout: float) -> LoRALinear:
    """Return a layer with random weights: its base in `dtype`, what is trained at least in fp32."""
    torch.manual_seed(0)
    base = Linear(7, 5, bias=bias).to(dtype).requires_grad_(False)
    layer = kind(base, rank=3, scale=1.5, dropout=dropout)
    for parameter in trained(layer):
        parameter.data = parameter.data.to(torch.promote_types(dtype, torch.float32))
        torch.nn.init.normal_(parameter)
    return layer


def trained(layer: LoRALinear) -> list[Tensor]:
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def assert_alike(fast: Tensor, plain: Tensor, dtype: torch.dtype) -> None:
    assert fast.dtype == plain.dtype
    tolerance = TOLERANCE[dtype]
    atol = tolerance * float(plain.detach().abs().max())
    assert_close(fast, plain, rtol=tolerance, atol=atol)


@both_kinds
@every_dtype
@with_and_without_bias
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_values_and_gradients_are_those_of_the_plain_formula(
    kind: type[LoRALinear], dtype: torch.dtype, bias: bool, dropout: float
) -> None:
    layer = filled(kind, dtype, bias, dropout)
    x = torch.randn(40, 7, dtype=dtype, requires_grad=True)
    grad = torch.randn(40, 5, dtype=dtype)
    found = []
    for formula in (layer, layer.plain_forward):
        torch.manual_seed(1)  # the same elements are dropped
        y = formula(x)
        found.append((y, *torch.autograd.grad(y, (x, *trained(layer)), grad)))
    for fast, plain in zip(*found, strict=True):
        assert_alike(fast, plain, dtype)


@both_kinds
@every_dtype
@with_and_without_bias
@torch.no_grad()
def test_values_without_gradients_are_those_of_the_plain_formula(
    kind: type[LoRALinear], dtype: torch.dtype, bias: bool
) -> None:
    layer = filled(kind, dtype, bias, dropout=0.9).eval()  # nothing is dropped in evaluation
    x = torch.randn(40, 7, dtype=dtype)
    assert_alike(layer(x), layer.plain_forward(x), dtype)
