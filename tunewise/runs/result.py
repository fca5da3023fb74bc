"""The records that a run leaves: the fields of result.json, error.json and metrics.jsonl."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from tunewise.config import RunConfig
from tunewise.metrics import METRICS
from tunewise.training.loop import Number

NEW_NAMES = {"prefix_seconds": "frozen_seconds"}
"""Fields that had another name in earlier versions, whose results are still read."""


class Record(BaseModel):
    """A part of result.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _by_new_names(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            return {NEW_NAMES.get(name, name): value for name, value in values.items()}
        return values


class Parameters(Record):
    """Number of parameters of the model, and of the trained ones."""

    total: int
    trainable: int
    percent: float
    """100 · trainable / total."""


class Best(Record):
    """The evaluation whose weights were kept."""

    epoch: int
    step: int
    metric: str
    value: Number


class Time(Record):
    """Seconds on the clock."""

    train_seconds: float
    """All updates; evaluations are not in it."""
    frozen_seconds: float
    """Computing the output of frozen first blocks, or reading it; see `train.frozen_cache`."""
    epoch_seconds: list[float]
    evaluation_seconds: float
    """All evaluations, the test split included."""


class Memory(Record):
    """The most memory held at once."""

    peak_bytes: int
    """The peak of the process on a CPU, of the allocator on a GPU."""
    device: str


class Estimate(Record):
    """Memory and time that were estimated before the run; see `tunewise estimate`."""

    peak_bytes: int
    epoch_seconds: float
    """The seconds of an epoch's updates."""
    frozen_seconds: float
    evaluation_seconds: float
    """The seconds of all evaluations, without texts that are written, whose length is not known."""
    seconds: float
    """The seconds of the whole run, if it does not stop early."""


class Tokens(Record):
    """Tokens that the model was trained on; a token counts once per epoch."""

    trained: int
    per_second: float


class SplitSize(Record):
    """The size of a split: its examples and tokens, and what was cut."""

    examples: int
    sequences: int
    tokens: int
    truncated: int
    """Examples that lost tokens to max_length."""
    tokens_cut: int
    """Tokens that they lost."""
    hash: str = ""
    """A hash of the examples, as in origin.json; none in results of earlier versions."""


class ClassScores(Record):
    """Precision, recall and F1 of one label, from 0 to 1."""

    precision: float
    recall: float
    f1: float
    support: float
    """Number of examples in which the label is expected."""


class Confusion(Record):
    """Confusion matrix: which label is predicted where which is expected."""

    labels: list[str]
    counts: list[list[int]]
    """A row per expected label, a column per predicted one."""


class Tables(Record):
    """Scores of a classifier label by label, on the test split."""

    per_class: dict[str, ClassScores]
    confusion: Confusion

    @property
    def commonest(self) -> tuple[str, float]:
        """The label that is expected most often, and the accuracy of always answering it."""
        counts = {label: scores.support for label, scores in self.per_class.items()}
        label = max(counts, key=lambda name: counts[name])
        return label, counts[label] / sum(counts.values())

    def rare(self, count: int) -> list[str]:
        """Return the labels with fewer test rows than this, each with their number."""
        supports = {label: scores.support for label, scores in self.per_class.items()}
        return [f"{label} ({number:.0f})" for label, number in supports.items() if number < count]


class Environment(Record):
    """The software and hardware of the run."""

    python: str
    torch: str
    tunewise: str
    device: str
    precision: str
    seed: int


class Result(Record):
    """The content of result.json."""

    name: str
    status: Literal["finished"]
    config: RunConfig
    parameters: Parameters
    data: dict[str, SplitSize]
    metrics: dict[str, dict[str, Number]]
    """The metrics of the best state: split, then metric."""
    intervals: dict[str, dict[str, tuple[Number, Number]]]
    """95 % bootstrap intervals over the examples of a split."""
    tables: Tables | None = None
    """The tables of a task with labels."""
    best: Best
    time: Time
    memory: Memory
    estimate: Estimate | None = None
    tokens: Tokens
    updates_left_out: int = 0
    """Number of updates with a loss or gradient that was not finite; see `train.on_nan`."""
    environment: Environment

    @property
    def is_finite(self) -> bool:
        """Whether the model's outputs were finite; earlier versions finished other runs too."""
        likelihoods = (
            value
            for of_split in self.metrics.values()
            for name, value in of_split.items()
            if name in METRICS and METRICS[name].of == "likelihood"
        )
        return all(map(math.isfinite, (self.best.value, *likelihoods)))


class Failure(Record):
    """The content of error.json."""

    error: str
    traceback: list[str]


class Evaluation(Record):
    """An evaluation on validation data: a line of metrics.jsonl, whose others are `Step`s."""

    number: int
    """The update after which it was made."""
    epoch: int
    validation: dict[str, Number]
    """The metrics that are computed while training."""
