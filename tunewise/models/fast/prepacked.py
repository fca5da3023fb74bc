"""Prepacked weights: in the memory layout of the processor's products, for passes of few tokens.

oneDNN multiplies block by block. From a weight as PyTorch keeps it, (out, in), every product makes
these blocks again: with one token that takes longer than the multiplication, with 64 an eighth of
the time. In generation a pass has one token of each text, so there the blocks are made once.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tunewise.models.language_model import LanguageModel
from tunewise.models.layers import Linear


@contextmanager
def prepacked(model: LanguageModel) -> Iterator[None]:
    """Let the linear layers of a model multiply by prepacked weights while the block lasts.

    Frozen weights that nothing else needs exist only in this form meanwhile, so no more memory is
    used.
    """
    named = model.named_parameters(remove_duplicate=False)
    uses = Counter(parameter.data_ptr() for _, parameter in named)
    layers, moved = [], []
    try:
        for layer in _prepacking(model):
            layers.append(layer)
            weight = layer.weight
            is_needed = uses[weight.data_ptr()] > 1 or not layer.is_only_multiplied
            if not is_needed and not weight.requires_grad and weight.dtype == model.compute_dtype:
                moved.append(layer)
                weight.data = weight.new_empty(0)
        yield
    finally:
        # An inference tensor could not take part in training.
        with torch.inference_mode(False):
            for layer in moved:
                assert layer.prepacked is not None
                layer.weight.data = layer.prepacked.to_dense()
                layer.prepacked = None
        for layer in layers:
            layer.prepacked = None


def prepack(model: LanguageModel) -> None:
    """Give the linear layers of a model prepacked copies of their weights, in its precision.

    Layers that share a weight share its copy, which no change of the weight reaches.
    """
    for _ in _prepacking(model):
        pass


@torch.no_grad()
def _prepacking(model: LanguageModel) -> Iterator[Linear]:
    """Yield each layer that gets a prepacked weight: it had none, and oneDNN can use one."""
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    layers = [layer for layer in layers if layer.prepacked is None]
    # A weight in fewer bits keeps them.
    layers = [layer for layer in layers if layer.weight.is_floating_point()]
    copies: dict[int, Tensor] = {}
    for layer in layers:
        if not _is_multiplied(layer.weight, model.compute_dtype):
            return
        place = layer.weight.data_ptr()
        if place not in copies:
            weight = layer.weight.to(model.compute_dtype)
            copies[place] = torch.ops.mkldnn._reorder_linear_weight(weight)
        layer.prepacked = copies[place]
        yield layer


def _is_multiplied(weight: Tensor, dtype: torch.dtype) -> bool:
    """Return whether oneDNN multiplies by a weight in this precision."""
    if weight.device.type != "cpu":
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # no types there
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
