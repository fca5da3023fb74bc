"""Weights laid out as a processor's products read them, for passes of few tokens.

oneDNN multiplies block by block. From a weight as PyTorch keeps it, (out, in), every product makes
these blocks anew: with up to four tokens that takes as long as to multiply, with 64 a fifth of the
time. Where texts are written a pass has one token of each, so there the blocks are made once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tunewise.models.language_model import LanguageModel
from tunewise.models.layers import Linear


@contextmanager
def prepacked(model: LanguageModel) -> Iterator[None]:
    """Have the linear layers of a model multiply by prepacked copies for as long as this lasts."""
    layers = prepack(model)
    try:
        yield
    finally:
        for layer in layers:
            layer.prepacked = None


def prepack(model: LanguageModel) -> list[Linear]:
    """Give the linear layers of a model prepacked copies of their weights, in its precision.

    Layers that share a weight share its copy, and those that have one keep it. What is done to a
    weight later does not reach its copy, so a model that is trained wants `prepacked`.

    Returns:
        The layers that were given one: none at all where oneDNN does not multiply.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    layers = [layer for layer in layers if layer.prepacked is None]
    if not layers or not _is_multiplied(layers[0].weight, model.compute_dtype):
        return []
    copies: dict[int, Tensor] = {}
    with torch.inference_mode():
        for layer in layers:
            key = layer.weight.data_ptr()
            if key not in copies:
                weight = layer.weight.to(model.compute_dtype)
                copies[key] = torch.ops.mkldnn._reorder_linear_weight(weight)
            layer.prepacked = copies[key]
    return layers


def _is_multiplied(weight: Tensor, dtype: torch.dtype) -> bool:
    """Return whether oneDNN multiplies by a weight in this precision."""
    if weight.device.type != "cpu":
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # no types there
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
