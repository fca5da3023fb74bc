"""Classification: one label per text, from a linear output layer on the text's last token."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tunewise.data.encode import EncodedSplit, encode_labelled
from tunewise.data.example import Example, MarkedText
from tunewise.data.layout import Layout
from tunewise.data.rows import Row, Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import DataError, nearest
from tunewise.evaluation.answers import LabelAnswer
from tunewise.tasks.labels import label_value, labels_as_text
from tunewise.tasks.task import Task
from tunewise.tasks.template import Template, columns_of


class Classification(Task):
    """A text, or several in a template, and a label."""

    kind: Literal["classification"] = "classification"
    text: str = "text"
    """The column with the text."""
    template: Template | None = None
    """Several columns as one text, such as `"{premise}\\n{hypothesis}"`, in place of `text`."""
    label: str = "label"
    """The column with the label: a string, a whole number or a truth value."""
    labels: dict[str, str] | None = Field(default=None, min_length=2)
    """Each label as it is in the rows, and its name; default: the labels of the training rows."""

    metrics: tuple[str, ...] = ("accuracy", "f1", "loss")

    _labels_are_text = field_validator("labels", mode="before")(labels_as_text)

    @field_validator("labels")
    @classmethod
    def _names_differ(cls, labels: dict[str, str] | None) -> dict[str, str] | None:
        if labels and len(set(labels.values())) < len(labels):
            raise ValueError("two labels have the same name")
        return labels

    @property
    def answer_kind(self) -> LabelAnswer:
        """A label of a new output layer."""
        return LabelAnswer()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (*self.prompt_columns, self.label)

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a prompt is made of."""
        return (self.text,) if self.template is None else tuple(columns_of(self.template))

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels, in the order of the output layer; known once the task is resolved."""
        return None if self.labels is None else tuple(self.labels.values())

    def resolve(self, examples: Sequence[Example]) -> "Classification":
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
        examples = [
            replace(self.prompt_of(row), target=self._name_of(row, names), choices=choices)
            for row in rows
        ]
        return self.sampled(split, examples)

    def prompt_of(self, row: Row) -> Example:
        """Return the text of a row, and all labels once the task is resolved."""
        labels = self.label_names or ()
        if self.template is None:
            text = MarkedText(self.read(row, self.text))
            return Example.asking(row.id, text, choices=labels)
        filled = self.fill(self.template, row)
        return Example.asking(row.id, filled.prompt, filled.cue, labels)

    def encode(
        self, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout
    ) -> EncodedSplit:
        """Return one sequence per example, whose last token predicts the label."""
        return encode_labelled(examples, tokenizer, layout)

    def _labels_of(self, rows: list[Row]) -> dict[str, str]:
        """Return the labels that occur, in order: numbers by value, text by alphabet."""
        labels = {label_value(row, self.label) for row in rows}
        if len(labels) < 2:
            only = labels.pop()
            raise DataError(
                f"{rows[0].origin}: every training row has the label {only!r}; two are needed"
            )
        numbers = all(re.fullmatch(r"-?\d+", label) for label in labels)
        ordered = sorted(labels, key=int) if numbers else sorted(labels)
        return {label: label for label in ordered}

    def _name_of(self, row: Row, names: dict[str, str]) -> str:
        label = label_value(row, self.label)
        if label not in names:
            where = (
                "never occurs in training" if self.labels is None else "is not one of task.labels"
            )
            raise DataError(f"{row.origin}: label {label!r} {where}; {nearest(label, names)}")
        return names[label]
