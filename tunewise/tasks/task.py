"""What every task is: settings, where its rows are, and the examples made of them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from pydantic import field_validator

from tunewise.data.encode import EncodedSplit
from tunewise.data.example import Example
from tunewise.data.rows import Row, Split, read_split
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import DataError
from tunewise.pocket.grammar import split_reviews
from tunewise.settings import Settings

POCKET_REVIEWS = "pocket_reviews"
"""The embedded task, whose rows come from the grammar."""


class Task(Settings):
    """A kind of task: how a row becomes an example, and how an answer is judged."""

    kind: str
    name: str = "custom"
    """What the task is called; a named task's rows lie in the data folder under this name."""
    description: str = ""
    """What it is, in a line."""
    path: Path | None = None
    """A file of rows, or a folder of splits; without it, the data folder is searched for `name`."""

    metrics: ClassVar[tuple[str, ...]]
    """The metrics that suit it; the first chooses the best state unless the configuration says."""

    @field_validator("path")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        # A run may be repeated from another folder, so its configuration keeps the whole path.
        return None if path is None else path.expanduser().absolute()

    def rows(self, split: Split, data: Path | None, group: str | None = None) -> list[Row]:
        """Return the rows of a split.

        Args:
            data: the data folder.
            group: a column whose values a single file's splits shall share out evenly.

        Raises:
            DataError: if there are none, or broken ones.
        """
        if self.path is not None:
            if not self.path.exists():
                raise DataError(f"task.path: {self.path}: no such file or folder")
            return read_split(self.path, split, group)
        if self.name == POCKET_REVIEWS:
            reviews = enumerate(split_reviews(split), start=1)
            return [
                Row(asdict(review), f"{self.name}/{split}:{number}") for number, review in reviews
            ]
        if data is None:
            raise DataError(
                f"task {self.name!r} needs its rows: give --data DIR (or set TUNEWISE_DATA), with "
                f"DIR/{self.name}/{split}.jsonl, or task.path"
            )
        folder = data / self.name
        if not folder.is_dir():
            raise DataError(
                f"task {self.name!r}: no folder {folder}; --data names the folder above it"
            )
        return read_split(folder, split, group)

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels, in the order of the output layer; None where it is over the vocabulary."""
        return None

    def settled(self, examples: Sequence[Example]) -> "Task":
        """Return the task with what it learnt from its examples written down, for a run to keep."""
        return self

    @abstractmethod
    def examples(self, split: Split, data: Path | None = None) -> list[Example]:
        """Return the examples of a split, in the order of the rows.

        Raises:
            DataError: if a row cannot be used; the message names it.
        """

    @abstractmethod
    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        max_length: int,
        prefix: Sequence[int] = (),
    ) -> EncodedSplit:
        """Return the token sequences of examples, of at most `max_length` ids, prefix included."""
