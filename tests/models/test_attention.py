"""Attention against its formula, written out."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tunewise.data.packing import Group
from tunewise.models.attention import Attention
from tunewise.models.config import AttentionShape
from tunewise.models.layers import Linear
from tunewise.models.packed import Places
from tunewise.models.rotary import Rotary

LENGTHS = [3, 3, 12, 1, 12, 3]
GROUPS = [Group(2, 3), Group(1, 12), Group(1, 1), Group(1, 12), Group(1, 3)]
PLACES = Places(torch.cat([torch.arange(length) for length in LENGTHS]), GROUPS)
SEGMENTS = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))

PLAIN = AttentionShape(16, 4, 4, 4, input_bias=True, output_bias=True)
SHAPES = {
    "plain": PLAIN,
    "no biases": replace(PLAIN, input_bias=False, output_bias=False),
    "scaled": replace(PLAIN, scale=1.0),
    "window of 1": replace(PLAIN, window=1),
    "window of 4": replace(PLAIN, window=4),
    "window of 12": replace(PLAIN, window=12),
    "window of 100": replace(PLAIN, window=100),
    "shared heads": replace(PLAIN, num_kv_heads=2),
    "one head of keys, in a window": replace(PLAIN, num_kv_heads=1, window=4),
    "wide heads": replace(PLAIN, head_dim=8),
    "rotary": replace(PLAIN, rotary=Rotary()),
    "normed heads": replace(PLAIN, head_norm_epsilon=1e-6),
    "all at once": AttentionShape(16, 4, 2, 8, 0.3, 4, True, False, Rotary(100.0), 1e-5),
}


def new_attention(
    shape: AttentionShape, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Attention, Places]:
    torch.manual_seed(0)
    attention = Attention(shape).to(device, dtype)
    return attention, PLACES._replace(positions=PLACES.positions.to(device))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_attention_is_its_formula(shape: AttentionShape, device: torch.device) -> None:
    attention, places = new_attention(shape, device)
    x = torch.randn(sum(LENGTHS), 16, device=device)
    expected = _by_formula(attention, x)
    torch.testing.assert_close(attention(x, places), expected.float(), atol=1e-5, rtol=1e-5)


TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 3e-2}
# Each shape in fp32, in pieces that cut a group; each precision in each size of a piece where every
# part of a shape is at work.
CASES = [
    *((name, torch.float32, 7) for name in SHAPES),
    *(("all at once", dtype, piece) for dtype in TOLERANCES for piece in (1, 7, 512)),
    *(("plain", dtype, 512) for dtype in TOLERANCES),
]


@pytest.mark.parametrize(("name", "dtype", "piece"), dict.fromkeys(CASES), ids=str)
def test_its_gradients_are_those_of_the_formula_in_every_precision(
    name: str,
    dtype: torch.dtype,
    piece: int,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunewise.models.fast.attention.PIECE", piece)
    attention, places = new_attention(SHAPES[name], device, dtype)
    x = torch.randn(sum(LENGTHS), 16, device=device, dtype=dtype, requires_grad=True)
    grad = torch.randn(sum(LENGTHS), 16, device=device, dtype=dtype)
    inputs = [x, *attention.parameters()]
    found = torch.autograd.grad(attention(x, places), inputs, grad)
    expected = torch.autograd.grad(_by_formula(attention, x), inputs, grad.double())
    largest = max(float(gradient.abs().max()) for gradient in expected)  # a key's bias has none
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(
            ours.double(), theirs.double(), rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype] * largest
        )


def test_on_a_processor_queries_keys_and_values_are_not_kept_in_fp32() -> None:
    attention, places = new_attention(PLAIN, torch.device("cpu"), torch.bfloat16)
    x = torch.randn(sum(LENGTHS), 16, dtype=torch.bfloat16, requires_grad=True)
    wide: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        wide.append(tensor.numel() if tensor.dtype == torch.float32 else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        attention(x, places)
    # One number per head and token, which gives the weights again.
    assert sum(wide) == 4 * sum(LENGTHS)


@pytest.mark.parametrize("window", [1, 4])
def test_a_window_reaches_so_many_tokens_back_and_no_further(
    window: int, device: torch.device
) -> None:
    attention, _ = new_attention(replace(PLAIN, window=window), device)
    places = Places(torch.arange(12, device=device), [Group(1, 12)])
    x = torch.randn(12, 16, device=device)
    for place in range(12):
        moved = x.clone()
        moved[place] += 1
        changed = (attention(moved, places) != attention(x, places)).any(-1).nonzero().flatten()
        assert changed.tolist() == list(range(place, min(place + window, 12)))


def test_rotary_attention_depends_on_distances_alone() -> None:
    attention, places = new_attention(SHAPES["rotary"], torch.device("cpu"))
    x = torch.randn(sum(LENGTHS), 16)
    moved = places._replace(positions=places.positions + 7)
    torch.testing.assert_close(attention(x, moved), attention(x, places), atol=1e-5, rtol=1e-5)


def _by_formula(attention: Attention, x: Tensor) -> Tensor:
    """Return (N, D) in float64, from one (N, N) mask over the whole row."""
    shape, segments = attention.shape, SEGMENTS.to(x.device)
    query, key, value = (
        _product(x, layer).unflatten(1, (-1, shape.head_dim))  # (N, H, K)
        for layer in (attention.query, attention.key, attention.value)
    )
    if shape.head_norm_epsilon is not None:
        query = _rms_norm(query, attention.query_norm.weight, shape.head_norm_epsilon)
        key = _rms_norm(key, attention.key_norm.weight, shape.head_norm_epsilon)
    if shape.rotary is not None:
        query, key = (_turned(part, shape.rotary.base) for part in (query, key))
    shared = shape.num_heads // shape.num_kv_heads
    key, value = (part.repeat_interleave(shared, dim=1) for part in (key, value))
    back = torch.arange(len(x))[:, None] - torch.arange(len(x))[None, :]  # (N, N)
    seen = (back >= 0) & (back < (shape.window or len(x)))
    seen = seen.to(x.device) & (segments[:, None] == segments[None, :])
    scale = shape.scale or shape.head_dim**-0.5
    logits = scale * torch.einsum("qhk,mhk->hqm", query, key)  # (H, N, N)
    weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    mixed = torch.einsum("hqm,mhk->qhk", weights, value).flatten(1)  # (N, H·K)
    return _product(mixed, attention.out)


def _product(x: Tensor, layer: Linear) -> Tensor:
    y = x.double() @ layer.weight.double().T
    return y if layer.bias is None else y + layer.bias.double()


def _rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * weight.double()


def _turned(x: Tensor, base: float) -> Tensor:
    """Return (N, H, K): each pair of numbers times e^(i · position · base^(-2i/K))."""
    half = x.shape[-1] // 2
    pairs = torch.complex(x[..., :half], x[..., half:])  # (N, H, K/2)
    speeds = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = PLACES.positions[:, None].double() * speeds  # (N, K/2)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None].to(x.device)
    return torch.cat((turned.real, turned.imag), dim=-1)
