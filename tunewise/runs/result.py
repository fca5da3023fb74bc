"""The records that a run leaves: the fields of result.json, error.json and metrics.jsonl."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from tunewise.config import RunConfig


class Record(BaseModel):
    """A part of result.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameters(Record):
    """How many numbers the model holds, and how many were trained."""

    total: int
    trainable: int
    percent: float
    """100 · trainable / total."""


class Best(Record):
    """The evaluation whose weights were kept."""

    epoch: int
    step: int
    metric: str
    value: float


class Time(Record):
    """Seconds on the clock."""

    train_seconds: float
    """All updates; evaluations are not in it."""
    prefix_seconds: float
    """Computing the output of frozen first blocks, or finding it; see `train.prefix_cache`."""
    epoch_seconds: list[float]
    evaluation_seconds: float
    """All evaluations, the test split included."""


class Memory(Record):
    """The most memory held at once."""

    peak_bytes: int
    """Of the process on a CPU, of the allocator on a GPU."""
    device: str


class Estimate(Record):
    """What was expected before the model was read; see `tunewise estimate`."""

    peak_bytes: int
    epoch_seconds: float
    """Of an epoch's updates."""
    prefix_seconds: float
    evaluation_seconds: float
    """Of all evaluations, without texts that are written out, whose length nobody knows."""
    seconds: float
    """Of the whole run, if it does not stop early."""


class Tokens(Record):
    """Tokens that went through the model in training, each as often as it did."""

    trained: int
    per_second: float


class SplitSize(Record):
    """What became of a split's rows."""

    examples: int
    sequences: int
    tokens: int
    truncated: int
    """Examples that lost tokens to max_length."""
    tokens_cut: int
    """How many tokens they lost."""


class Tables(Record):
    """What a classifier gets right and what it takes for what, on the test split."""

    per_class: dict[str, dict[str, float]]
    """Precision, recall, F1 and support of each label."""
    confusion: dict[str, list[str] | list[list[int]]]
    """`labels`, and `counts`: a row per expected label, a column per predicted one."""


class Environment(Record):
    """What it ran on."""

    python: str
    torch: str
    tunewise: str
    device: str
    precision: str
    seed: int


class Result(Record):
    """result.json."""

    name: str
    status: Literal["finished"]
    config: RunConfig
    parameters: Parameters
    data: dict[str, SplitSize]
    metrics: dict[str, dict[str, float]]
    """Of the best state: split, then metric."""
    intervals: dict[str, dict[str, tuple[float, float]]]
    """95 % bootstrap intervals over the examples of a split."""
    tables: Tables | None = None
    """Of tasks with labels."""
    best: Best
    time: Time
    memory: Memory
    estimate: Estimate | None = None
    tokens: Tokens
    updates_left_out: int = 0
    """Those whose loss or gradient was not finite; see `train.on_nan`."""
    environment: Environment


class Failure(Record):
    """error.json."""

    error: str
    traceback: list[str]


class Update(Record):
    """A line of metrics.jsonl: an update, in which null stands for what is not a finite number."""

    number: int
    epoch: int
    loss: float | None
    num_tokens: int
    num_scored: int
    learning_rate: float | None
    grad_norm: float | None
    seconds: float | None


class Evaluation(Record):
    """A line of metrics.jsonl: an evaluation on validation data."""

    number: int
    epoch: int
    validation: dict[str, float]
