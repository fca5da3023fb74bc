"""GELU against its formula, and layers that have no values yet."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tunewise.models.fast import gelu as fast_gelu
from tunewise.models.layers import gelu

TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("tile", [7, 2**18])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_gelu_and_its_gradient_are_those_of_the_formula(
    dtype: torch.dtype, tile: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_gelu, "TILE", tile)
    extremes = torch.tensor([0.0, -0.0, 1e-6, 10.0, -10.0, 1e4, -1e4])
    values = torch.cat([torch.linspace(-8, 8, 194), extremes]).view(67, 3).T  # strided
    x = values.to(device, dtype).requires_grad_(True)
    grad = torch.randn(3, 67, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    y = gelu(x)
    (found,) = torch.autograd.grad(y, x, grad)
    plain = x.detach().double().requires_grad_(True)
    expected = _by_formula(plain)
    (wanted,) = torch.autograd.grad(expected, plain, grad.double())
    tolerance = TOLERANCES[dtype]
    assert y.dtype == found.dtype == dtype
    assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)
    assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)


def test_a_model_without_values_is_built_without_the_modules_that_would_draw_some() -> None:
    program = (
        "import sys\n"
        "from tunewise.models.catalog import KNOWN_MODELS\n"
        "from tunewise.models.folder import build_model\n"
        "model = build_model(KNOWN_MODELS['gpt2'].config)\n"
        "assert all(parameter.is_meta for parameter in model.parameters())\n"
        "assert 'sympy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _by_formula(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
