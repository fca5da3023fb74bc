"""How a model is trained."""

from typing import Literal

from pydantic import Field

from tunewise.device import Precision
from tunewise.settings import Settings

OptimizerKind = Literal["adamw", "adam", "sgd", "sgd_momentum"]
Tracker = Literal["tensorboard", "wandb", "mlflow"]


class EarlyStopping(Settings):
    """When to stop before the last epoch."""

    patience: int = Field(default=2, gt=0)
    """How many evaluations in a row may pass without a new best value."""


class TrainConfig(Settings):
    """Everything about training that is not the method."""

    epochs: int = Field(default=3, ge=0)
    """Passes over the training split; with 0 the model is evaluated as it is."""
    batch_size: int = Field(default=8, gt=0)
    """Sequences per optimizer update."""
    max_length: int | None = Field(default=None, gt=1)
    """The most tokens of a sequence; without it, as many as the model has positions."""
    tokens_per_pass: int = Field(default=8192, gt=0)
    """The most tokens of one forward pass: bounds memory; the result does not depend on it."""
    optimizer: OptimizerKind = "adamw"
    """sgd_momentum has a momentum of 0.9; adam adds weight decay to the gradient, unlike adamw."""
    learning_rate: float | None = Field(default=None, gt=0)
    """The highest rate; without it, the method's own default."""
    min_learning_rate: float = Field(default=0.0, ge=0)
    """Where warm-up starts, and where the linear and cosine schedules end."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """The way down after warm-up."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """The share of all updates during which the rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Applied to matrices; not to biases and norms."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """The greatest norm of an update's gradient; null for no clipping."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On embeddings, attention weights and residuals of the model."""
    evaluate_every: int | None = Field(default=None, gt=0)
    """Updates between evaluations on validation data; without it, once an epoch."""
    metric: str | None = None
    """The validation metric that chooses the best state; without it, the task's first."""
    early_stopping: EarlyStopping | None = None
    """null trains all epochs; the best state is kept in any case."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the device computes it natively."""
    on_nan: Literal["stop", "skip"] = "stop"
    """What to do where a loss or gradient is not finite: stop, or leave the update out."""
    checkpoint_every: int | None = Field(default=None, gt=0)
    """Updates between checkpoints for `--resume`, beside those by the clock."""
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    """Minutes between checkpoints."""
    checkpointing: bool = False
    """Compute each block again in the backward pass: less memory, a third more work."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the blocks in training; auto is off, since nowhere was it found to pay."""
    length_window: int | None = Field(default=None, gt=0)
    """Updates among which sequences are shared out by length; without it, order is chance alone."""
    prefix_cache: float = Field(default=4.0, ge=0)
    """GiB on the disk for the output of frozen first blocks, computed once; 0 computes it anew."""
    trackers: tuple[Tracker, ...] = ()
    """Where updates and metrics are shown while they come, beside the run's own folder."""
