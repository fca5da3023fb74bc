"""The optimizers, by PyTorch."""

import torch
from torch import nn

from tunewise.models import LanguageModel
from tunewise.training.config import TrainConfig

MOMENTUM = 0.9


def build_optimizer(model: LanguageModel, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of everything trainable; `set_learning_rate` comes before each update.

    Weight decay is for matrices. A module may have `lr_ratios`: the learning rates of parameters of
    its own, by name, over that of all others.
    """
    ratios = {
        f"{path}.{name}": ratio
        for path, module in model.named_modules()
        for name, ratio in getattr(module, "lr_ratios", {}).items()
    }
    alike: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.trainable():
        # Fused steps go through a parameter and its gradient in the order of memory.
        parameter.data = parameter.data.contiguous()
        alike.setdefault((ratios.get(name, 1.0), parameter.ndim < 2), []).append(parameter)
    groups = [
        {
            "params": alike[ratio, is_vector],
            "weight_decay": 0.0 if is_vector else config.weight_decay,
            "lr_ratio": ratio,
        }
        for ratio, is_vector in sorted(alike)
    ]
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=0.0, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=0.0, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=0.0, fused=True)
        case "sgd_momentum":
            return torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of an update, in each group of parameters by its ratio."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_ratio"]
