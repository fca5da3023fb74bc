"""The optimizers, by PyTorch."""

import torch

from tunewise.models import LanguageModel
from tunewise.training.config import TrainConfig

MOMENTUM = 0.9


def build_optimizer(model: LanguageModel, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of everything trainable; its rate is set before each update."""
    parameters = [parameter for _, parameter in model.trainable()]
    for parameter in parameters:
        # Fused steps go through a parameter and its gradient in the order of memory.
        parameter.data = parameter.data.contiguous()
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=0.0, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=0.0, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=0.0, fused=True)
        case "sgd_momentum":
            return torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, fused=True)
