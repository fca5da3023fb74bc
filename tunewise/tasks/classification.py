"""One label per text, from a linear output layer on the text's last token."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from tunewise.data.encode import EncodedSplit, encode_labelled
from tunewise.data.example import Example
from tunewise.data.rows import Row, Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import DataError, nearest
from tunewise.tasks.task import Task


class Classification(Task):
    """A text and its label."""

    kind: Literal["classification"] = "classification"
    text: str = "text"
    """The column with the text."""
    label: str = "label"
    """The column with the label: a string, a whole number or a truth value."""
    labels: dict[str, str] | None = Field(default=None, min_length=2)
    """Each label as it stands in the rows, and its name; without it, those of the training rows."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "loss")

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_are_text(cls, labels: Any) -> Any:
        if isinstance(labels, dict):
            return {str(value): name for value, name in labels.items()}
        return labels

    @field_validator("labels")
    @classmethod
    def _names_differ(cls, labels: dict[str, str] | None) -> dict[str, str] | None:
        if labels and len(set(labels.values())) < len(labels):
            raise ValueError("two labels have the same name")
        return labels

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels, in the order of the output layer; known once the task is settled."""
        return None if self.labels is None else tuple(self.labels.values())

    def settled(self, examples: Sequence[Example]) -> "Classification":
        """Return the task with the labels of its training rows as its own."""
        if self.labels is not None:
            return self
        return self.model_copy(update={"labels": {name: name for name in examples[0].choices}})

    def examples(self, split: Split, data: Path | None = None) -> list[Example]:
        """Return one example per row."""
        rows = self.rows(split, data, group=self.label)
        names = self.labels
        if names is None:
            training = rows if split == "train" else self.rows("train", data, group=self.label)
            names = self._labels_of(training)
        choices = tuple(names.values())
        return [
            Example(
                id=row.id,
                prompt=row.text(self.text),
                target=self._name_of(row, names),
                choices=choices,
            )
            for row in rows
        ]

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        max_length: int,
        prefix: Sequence[int] = (),
    ) -> EncodedSplit:
        """Return one sequence per example, whose last token predicts the label."""
        return encode_labelled(examples, tokenizer, max_length, prefix)

    def _labels_of(self, rows: list[Row]) -> dict[str, str]:
        """Return the labels that occur, in order: numbers by value, text by alphabet."""
        found = {self._value(row) for row in rows}
        if len(found) < 2:
            only = found.pop()
            raise DataError(
                f"{rows[0].origin}: every training row has the label {only!r}; two are needed"
            )
        numbers = all(re.fullmatch(r"-?\d+", label) for label in found)
        ordered = sorted(found, key=int) if numbers else sorted(found)
        return {label: label for label in ordered}

    def _name_of(self, row: Row, names: dict[str, str]) -> str:
        label = self._value(row)
        if label not in names:
            where = (
                "never occurs in training" if self.labels is None else "is not one of task.labels"
            )
            raise DataError(f"{row.origin}: label {label!r} {where}; {nearest(label, names)}")
        return names[label]

    def _value(self, row: Row) -> str:
        """Return a row's label as text."""
        value = row.value(self.label)
        if not isinstance(value, (str, int)) or value == "":
            raise DataError(
                f"{row.origin}: column {self.label!r} holds {value!r}; "
                "a label is a string or a whole number"
            )
        return row.text(self.label) if isinstance(value, str) else str(value)
