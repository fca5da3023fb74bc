"""Settings of training: `train` in a configuration."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pydantic import Field, model_validator

from tunewise.device import Precision
from tunewise.errors import ConfigError
from tunewise.settings import Settings
from tunewise.training.objectives import AnyObjective, CrossEntropy
from tunewise.training.optimizers import AnyOptimizer
from tunewise.training.optimizers.adam import AdamW

logger = logging.getLogger(__name__)

Tracker = Literal["tensorboard", "wandb", "mlflow"]

NEW_NAMES = {"prefix_cache": "frozen_cache"}
"""Settings that had another name in earlier versions, which is still read."""


class EarlyStopping(Settings):
    """Early stopping: training may end before the last epoch."""

    patience: int = Field(default=2, gt=0)
    """Number of evaluations in a row without a new best value after which training stops."""


class TrainConfig(Settings):
    """Everything about training that is not the method."""

    # How much is trained: the headings of docs/settings.md, see `scripts/settings_reference.py`.
    epochs: int = Field(default=3, ge=0)
    """Passes over the training split; with 0 the model is evaluated as it is."""
    batch_size: int = Field(default=8, gt=0)
    """Sequences per optimizer update."""
    max_length: int | None = Field(default=None, gt=1)
    """Most tokens of a sequence; default: the task's, else the model's context length."""
    length_window: int | None = Field(default=None, gt=0)
    """Updates among which sequences are distributed by length; without it, the order is random."""

    # Updates.
    objective: AnyObjective = CrossEntropy()
    """The objective of an update: a kind alone, or one of these with its settings."""
    optimizer: AnyOptimizer = AdamW()
    """A name alone, such as `optimizer: sgd`, or one of these with its settings."""
    learning_rate: float | None = Field(default=None, gt=0)
    """The highest learning rate; default: that of the method."""
    min_learning_rate: float = Field(default=0.0, ge=0)
    """The learning rate at which warm-up starts, and the linear and cosine schedules end."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """The course of the learning rate after warm-up."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Fraction of all updates during which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of matrices; biases and norms have none."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of an update's gradient; null for no clipping."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the model's embeddings, attention weights and residuals."""
    on_nan: Literal["stop", "skip"] = "stop"
    """The action if a loss, gradient or evaluation is not finite: stop, or go on without the update
    or evaluation."""

    # Evaluation.
    evaluate_every: int | None = Field(default=None, gt=0)
    """Updates between evaluations on validation data; without it, once an epoch."""
    metric: str | None = None
    """The validation metric that chooses the best state; without it, the task's first."""
    early_stopping: EarlyStopping | None = None
    """null trains all epochs; the best state is kept in any case."""

    # Memory and speed.
    tokens_per_pass: int = Field(default=8192, gt=0)
    """Most tokens of one forward pass: bounds memory; the result does not depend on it."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the device computes it natively."""
    checkpointing: bool = False
    """Compute each block again in the backward pass: less memory, a third more work."""
    frozen_cache: float = Field(default=4.0, ge=0)
    """GiB on the disk for the output of frozen first blocks, computed once; 0 for no cache."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the blocks in training; auto is off, since no measurement was faster."""

    # Checkpoints and trackers.
    checkpoint_every: int | None = Field(default=None, gt=0)
    """Updates between checkpoints for `--resume`, in addition to those by time."""
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    """Minutes between checkpoints."""
    trackers: tuple[Tracker, ...] = ()
    """Experiment trackers to which updates and metrics are sent during the run."""

    @model_validator(mode="before")
    @classmethod
    def _by_new_names(cls, values: Any) -> Any:
        return with_new_names(values) if isinstance(values, Mapping) else values


def with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of training with old names replaced by new ones; a warning says so once.

    Raises:
        ConfigError: if one is given under its old name and its new one.
    """
    for old, new in NEW_NAMES.items():
        if old in values:
            _say_new_name(old, new)
            if new in values:
                raise ConfigError(f"train.{old} is the old name of train.{new}; give one of them")
    return {NEW_NAMES.get(name, name): value for name, value in values.items()}


@cache
def _say_new_name(old: str, new: str) -> None:
    """Log the new name of a setting, once in a process."""
    logger.warning("train.%s is now called train.%s; the old name still works", old, new)
