"""The learning rate of each update."""

import math

from tunewise.training.config import TrainConfig


def learning_rate(update: int, num_updates: int, config: TrainConfig) -> float:
    """Return the learning rate of an update.

    It rises in a straight line from `min_learning_rate` during warm-up, then stays (constant) or
    falls back to `min_learning_rate` in a straight line (linear) or along half a cosine
    (https://arxiv.org/abs/1608.03983).

    Args:
        update: the number of the update, from 0 to `num_updates` - 1.
    """
    assert config.learning_rate is not None
    low, high = config.min_learning_rate, config.learning_rate
    warmup = num_warmup_updates(num_updates, config)
    if update < warmup:
        return low + (high - low) * update / warmup
    if config.schedule == "constant":
        return high
    progress = (update - warmup) / max(1, num_updates - warmup)
    if config.schedule == "linear":
        return high + (low - high) * progress
    return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2


def num_warmup_updates(num_updates: int, config: TrainConfig) -> int:
    """Return the number of updates during which the learning rate rises."""
    return round(config.warmup * num_updates)
