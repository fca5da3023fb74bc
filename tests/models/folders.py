"""Model folders to read, and to change."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny import add_noise
from torch import Tensor

from tunewise.models import LanguageModel, ModelConfig
from tunewise.models.folder import build_model
from tunewise.models.language_model import initialise


def fresh_model(config: ModelConfig) -> LanguageModel:
    """Return a model whose every tensor has values of its own."""
    model = build_model(config, "cpu")
    generator = torch.Generator().manual_seed(0)
    initialise(model, generator)
    add_noise(model.parameters(), 0.1, generator)
    return model.requires_grad_(False).eval()


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)
