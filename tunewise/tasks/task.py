"""The base class of all tasks: settings, the source of the rows, and their examples."""

import logging
import os
import string
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from tunewise.data.encode import EncodedSplit
from tunewise.data.example import Example
from tunewise.data.hub import HubData, hub_source
from tunewise.data.layout import Layout
from tunewise.data.names import Column
from tunewise.data.rows import SPLITS, OnBadRow, Row, Split
from tunewise.data.say_once import say_once
from tunewise.data.splits import Source, local_source, rows_of, subset
from tunewise.data.tokenizer import Tokenizer
from tunewise.data.unusable import BadRows
from tunewise.errors import ConfigError, DataError, first_of, nearest
from tunewise.evaluation.answers import AnswerKind
from tunewise.metrics import METRICS
from tunewise.pocket.grammar import split_reviews
from tunewise.settings import Settings
from tunewise.tasks.labels import with_plain_label
from tunewise.tasks.notices import label_notices, row_notices
from tunewise.tasks.template import Filled, fill
from tunewise.tasks.usable import Identity, read_once, settle, usable_rows

logger = logging.getLogger(__name__)

POCKET_REVIEWS = "pocket_reviews"
"""The embedded task, whose rows come from the grammar."""

NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Task(Settings):
    """A kind of task: how a row becomes an example, and what its answer is."""

    kind: str
    name: str = Field(default="custom", pattern=r"^\w[\w .-]*$")
    """The task's name; a named task's rows are in the data folder under this name."""
    description: str = ""
    """A description in one line."""
    path: Path | None = None
    """A file of rows, or a folder of splits; without it, the data folder is searched for `name`."""
    hub: HubData | None = None
    """The data set on the Hugging Face hub, used if the data are in no folder here."""
    id: Column | None = None
    """The column with your own key of each row, which is its `id` in predictions.jsonl. Default:
    `FILE:LINE`."""
    samples: int | dict[Split, int] | None = None
    """Number of rows to use, sampled by `sample_seed`: one for all splits, or one per split."""
    sample_seed: int = Field(default=0, ge=0)
    """Seed of that sample; it does not depend on the seed of a run."""
    train_size: float | None = Field(default=None, gt=0, lt=1)
    """Fraction of the training rows to train on; the others are the validation rows, in place of
    the data's own. Default: the data's own validation rows, or 20 % of the training rows."""
    bad_rows: BadRows = "stop"
    """What is done with rows that cannot be used: `stop`, or `drop` them and say how many."""
    max_length: int | None = Field(default=None, gt=1)
    """Most tokens of a sequence, unless `train.max_length` is set."""
    lowercase: bool = False
    """Whether to read all text in lower case."""
    punctuation: bool = True
    """Whether to keep punctuation (the ASCII marks)."""

    metrics: tuple[str, ...]
    """The metrics; the first chooses the best state, unless `train.metric` is set."""

    @field_validator("path")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        # A run may be repeated from another folder, so its configuration keeps the whole path.
        return None if path is None else Path(os.path.expanduser(path)).absolute()

    @field_validator("samples", mode="before")
    @classmethod
    def _samples_are_of_splits(cls, samples: Any) -> Any:
        if isinstance(samples, Mapping) and (unknown := samples.keys() - set(SPLITS)):
            split = str(min(unknown, key=str))
            raise ValueError(f"unknown split {split!r}; {nearest(split, SPLITS)}")
        return samples

    @field_validator("samples")
    @classmethod
    def _samples_are_some(
        cls, samples: int | dict[Split, int] | None
    ) -> int | dict[Split, int] | None:
        counts = samples.values() if isinstance(samples, dict) else [samples]
        if any(count is not None and count < 1 for count in counts):
            raise ValueError("at least one row of each split is needed")
        return samples

    @model_validator(mode="after")
    def _metrics_suit_the_answer(self) -> Self:
        known = [name for name, metric in METRICS.items() if self.answer_kind.suits(metric)]
        if wrong := [name for name in self.metrics if name not in known]:
            hint = nearest(wrong[0], known)
            raise ValueError(f"metrics: no metric {wrong[0]!r} for this kind of task; {hint}")
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metrics: the list is empty or names a metric twice")
        return self

    @property
    @abstractmethod
    def answer_kind(self) -> AnswerKind:
        """The kind of its answers: labels, choices among texts, texts, or nothing."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a prompt is made of; none where it depends on the row."""
        return ()

    def rows(self, split: Split, data: Path | None) -> list[Row]:
        """Return the rows of a split but for broken ones, which `examples` counts.

        Args:
            data: the data folder.

        Raises:
            DataError: if there are none.
        """
        return rows_of(self.source(data), split, None, self.train_size, _leave_out)

    def examples(self, split: Split, data: Path | None = None) -> list[Example]:
        """Return the examples of a split, in the order of the rows.

        Rows become examples before the data are split, so that what cannot be used takes no part
        in it, and labels keep their shares in all splits made here.

        Raises:
            DataError: if rows cannot be used and are not to be dropped; the message counts them
                and names the first.
        """
        source = read_once(self.source(data))
        made: dict[int, tuple[Row, Example]] = {}

        def usable_of(own: Split, _: OnBadRow) -> list[Row]:
            errors: list[DataError] = []
            rows = source.splits[own](errors.append)
            make, identity = self.maker(source), Identity(self.id)
            usable = usable_rows(rows, lambda row: identity.give(make(row), row), errors)
            rows = [row for row, _ in usable]
            dropped = settle(errors, len(rows), self.bad_rows)
            if own == split:  # what is to be said of rows that are split is said once, by "train"
                for notice in [*filter(None, [dropped]), *self._notices(rows)]:
                    logger.warning("%s: %s", split, notice)
            if own == split == "train" and (unread := self._unread_columns(rows)):
                names = first_of(unread)
                say_once(logger, logging.INFO, f"{source.where}: columns not read: {names}")
            rows = [with_plain_label(row, self.label_column) for row in rows]
            made.update(
                (id(row), (row, example)) for row, (_, example) in zip(rows, usable, strict=True)
            )
            return rows

        whole = Source(source.where, {own: partial(usable_of, own) for own in source.splits})
        rows = rows_of(whole, split, self.label_column, self.train_size)
        # A row that splitting made, such as a part of a long text, has no example yet.
        examples = [
            made[id(row)][1] if id(row) in made else replace(self.example(row), row=row.number)
            for row in rows
        ]
        return self.sampled(split, self.kept(split, examples))

    @abstractmethod
    def example(self, row: Row) -> Example:
        """Return the example that a row makes.

        Raises:
            DataError: if the row cannot be used; the message names it.
        """

    def maker(self, source: Source) -> Callable[[Row], Example]:
        """Return the function that makes the example of a row, as far as the source decides it."""
        return self.example

    def kept(self, split: Split, examples: list[Example]) -> list[Example]:
        """Return the examples of a split that are of use; all of them, unless a kind says more."""
        return examples

    def sampled(self, split: Split, examples: list[Example]) -> list[Example]:
        """Return as many of the examples as `samples` says; labels keep their shares."""
        count = self.samples.get(split) if isinstance(self.samples, dict) else self.samples
        if count is None:
            return examples
        return subset(examples, count, self.sample_seed, list(map(_label, examples)))

    def source(self, data: Path | None) -> Source:
        """Return the source of the task's rows.

        Raises:
            DataError: if there is none.
        """
        if self.path is not None:
            if not os.path.exists(self.path):  # pathlib's fails on too long a name
                raise DataError(
                    f"task.path: {self.path}: no such file or folder; a path is taken from the "
                    "folder in which a command is given, and kept whole: task.path=PLACE says "
                    "where the rows are now"
                )
            return local_source(self.path)
        if self.name == POCKET_REVIEWS:
            return Source(self.name, {split: partial(_pocket_reviews, split) for split in SPLITS})
        folder = None if data is None else data / self.name
        if folder is not None and folder.is_dir():
            return local_source(folder)
        if self.hub is not None:
            return hub_source(self.hub, self.name)
        if folder is None:
            raise DataError(
                f"task {self.name!r} needs its rows: give --data DIR (or set TUNEWISE_DATA), with "
                f"DIR/{self.name}/train.jsonl, or task.path"
            )
        raise DataError(
            f"task {self.name!r}: no folder {folder}; --data names the folder above it, and "
            f"task.path the rows themselves: task.path={data}"
        )

    @property
    def is_in_data_folder(self) -> bool:
        """Whether the data folder is searched for its rows."""
        return self.path is None and self.name != POCKET_REVIEWS

    def read(self, row: Row, column: str) -> str:
        """Return a column's text as the task reads it.

        Raises:
            DataError: if the column is missing or holds anything else.
        """
        text = row.text(column)
        text = text.lower() if self.lowercase else text
        return text if self.punctuation else text.translate(NO_PUNCTUATION)

    def fill(self, template: str, row: Row) -> Filled:
        """Return a template with the texts of a row's columns."""
        return fill(template, partial(self.read, row))

    @property
    def label_column(self) -> str | None:
        """The column with the label, whose values keep their shares in all splits made here."""
        return None

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels, in the order of the output layer; None if that is over the vocabulary."""
        return None

    def resolve(self, examples: Sequence[Example]) -> "Task":
        """Return the task with the settings filled in that its training examples decide."""
        return self

    def prompt_of(self, row: Row) -> Example:
        """Return an example of a row's prompt; the answer may be missing.

        Raises:
            ConfigError: if the task answers nothing.
            DataError: if the row cannot be used.
        """
        raise ConfigError(f"task {self.name!r} is of kind {self.kind}, which answers nothing")

    @abstractmethod
    def encode(
        self, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout
    ) -> EncodedSplit:
        """Return the token sequences of examples."""

    def read_columns(self, row: Row) -> tuple[str, ...]:
        """Return the columns that are read of a row."""
        return self.columns

    def _unread_columns(self, rows: Sequence[Row]) -> list[str]:
        """Return the columns of the user's own files that hold something and are not read."""
        found: dict[str, None] = {}
        for row in rows if self.path is not None else ():
            filled = {name: None for name, value in row.values.items() if value not in (None, "")}
            for name in (*self.read_columns(row), self.id or ""):
                filled.pop(name, None)
            found |= filled
        return list(found)

    def _notices(self, rows: Sequence[Row]) -> list[str]:
        """Return what deserves a word about rows that are used, one sentence each."""
        notices = row_notices(rows, self.prompt_columns or self.columns)
        if self.label_column is None:
            return notices
        return notices + label_notices(rows, self.label_column, self.label_names is not None)


def _label(example: Example) -> str:
    """Return the label of an example; none if its answer is a text."""
    return example.target if example.choices else ""


def _leave_out(_: DataError) -> None:
    """Read on without a row."""


def _pocket_reviews(split: Split, _: OnBadRow) -> list[Row]:
    reviews = enumerate(split_reviews(split))
    return [
        Row(asdict(review), f"{POCKET_REVIEWS}/{split}:{number + 1}", number)
        for number, review in reviews
    ]
