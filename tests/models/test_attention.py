"""Attention against its formula, written out."""

import pytest
import torch
from torch import Tensor

from tunewise.models.attention import Attention, Run, runs_of

LENGTHS = [3, 3, 12, 1, 12, 3]


def test_runs_are_neighbours_of_equal_length() -> None:
    segments = torch.tensor([7, 7, 3, 3, 5, 0, 0, 0, 2, 2])
    assert runs_of(segments) == [Run(2, 2), Run(1, 1), Run(1, 3), Run(1, 2)]


@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("window", [None, 1, 4, 12, 100])
def test_attention_is_its_formula(
    scale: float | None, window: int | None, device: torch.device
) -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4, scale=scale, window=window).to(device)
    x = torch.randn(sum(LENGTHS), 16, device=device)
    segments = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS)).to(device)
    found = attention(x, runs_of(segments))
    expected = _by_formula(attention, x, segments, scale or 4**-0.5, window)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("piece", [1, 7, 512])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-5), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)],
)
def test_its_gradients_are_those_of_the_formula_in_every_precision(
    dtype: torch.dtype,
    tolerance: float,
    window: int | None,
    piece: int,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunewise.models.attention.PIECE", piece)
    torch.manual_seed(0)
    attention = Attention(16, 4, window=window).to(device, dtype)
    x = torch.randn(sum(LENGTHS), 16, device=device, dtype=dtype, requires_grad=True)
    grad = torch.randn(sum(LENGTHS), 16, device=device, dtype=dtype)
    segments = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS)).to(device)
    inputs = [x, *attention.parameters()]
    found = torch.autograd.grad(attention(x, runs_of(segments)), inputs, grad)
    formula = _by_formula(attention, x, segments, 4**-0.5, window)
    expected = torch.autograd.grad(formula, inputs, grad.double())
    largest = max(float(gradient.abs().max()) for gradient in expected)  # a key's bias has none
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(
            ours.double(), theirs.double(), rtol=tolerance, atol=tolerance * largest
        )


def test_on_a_processor_queries_keys_and_values_are_not_kept_in_fp32() -> None:
    attention = Attention(16, 4).to(torch.bfloat16)
    x = torch.randn(sum(LENGTHS), 16, dtype=torch.bfloat16, requires_grad=True)
    segments = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    wide: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        wide.append(tensor.numel() if tensor.dtype == torch.float32 else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        attention(x, runs_of(segments))
    # One number per head and token, which gives the weights again.
    assert sum(wide) == 4 * sum(LENGTHS)


@pytest.mark.parametrize("window", [1, 4])
def test_a_window_reaches_so_many_tokens_back_and_no_further(
    window: int, device: torch.device
) -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4, window=window).to(device)
    x = torch.randn(12, 16, device=device)
    for place in range(12):
        moved = x.clone()
        moved[place] += 1
        runs = [Run(1, 12)]
        changed = (attention(moved, runs) != attention(x, runs)).any(-1).nonzero().flatten()
        assert changed.tolist() == list(range(place, min(place + window, 12)))


def _by_formula(
    attention: Attention, x: Tensor, segments: Tensor, scale: float, window: int | None
) -> Tensor:
    """Return (N, D) in float64, from one (N, N) mask over the whole row."""
    layers = (attention.query, attention.key, attention.value)
    query, key, value = (
        (x.double() @ layer.weight.double().T + layer.bias.double()).view(len(x), 4, 4)  # (N, H, K)
        for layer in layers
    )
    back = torch.arange(len(x))[:, None] - torch.arange(len(x))[None, :]  # (N, N)
    seen = (back >= 0) & (back < (window or len(x)))
    seen = seen.to(x.device) & (segments[:, None] == segments[None, :])
    logits = scale * torch.einsum("qhk,mhk->hqm", query, key)  # (H, N, N)
    weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    mixed = torch.einsum("hqm,mhk->qhk", weights, value).flatten(1)  # (N, D)
    return mixed @ attention.out.weight.double().T + attention.out.bias.double()
