"""Classification: one label per text, from a linear output layer on the text's last token."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from pydantic import Field, field_validator

from tunewise.data.encode import EncodedSplit, encode_labelled
from tunewise.data.example import Example, MarkedText
from tunewise.data.layout import Layout
from tunewise.data.names import Column, tidy
from tunewise.data.rows import Row
from tunewise.data.splits import Source, rows_of
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import DataError, nearest
from tunewise.evaluation.answers import LabelAnswer
from tunewise.tasks.labels import in_order, label_value, refuse_scores, with_plain_keys
from tunewise.tasks.task import Task
from tunewise.tasks.template import Template, columns_of
from tunewise.tasks.usable import settle, usable_rows


class Classification(Task):
    """A text, or several in a template, and a label."""

    kind: Literal["classification"] = "classification"
    text: Column = "text"
    """The column with the text."""
    template: Template | None = None
    """Several columns as one text, such as `"{premise}\\n{hypothesis}"`, in place of `text`."""
    label: Column = "label"
    """The column with the label: a text, a number or a truth value."""
    labels: dict[str, str] | None = Field(default=None, min_length=2)
    """Each label as it is in the rows, and its name; default: the labels of the training rows."""

    metrics: tuple[str, ...] = ("accuracy", "f1", "loss")

    _labels_are_text = field_validator("labels", mode="before")(with_plain_keys)

    @field_validator("labels")
    @classmethod
    def _names_differ(cls, labels: dict[str, str] | None) -> dict[str, str] | None:
        names = {label: tidy(name) for label, name in (labels or {}).items()}
        if not all(names.values()):
            raise ValueError("the name of a label is empty")
        if len(set(names.values())) < len(names):
            raise ValueError("two labels have the same name")
        return names or None

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
    def label_column(self) -> str:
        """The column with the label."""
        return self.label

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels, in the order of the output layer; known once the task is resolved."""
        return None if self.labels is None else tuple(self.labels.values())

    def resolve(self, examples: Sequence[Example]) -> "Classification":
        """Return the task with the labels of its training rows as its own."""
        if self.labels is not None:
            return self
        return self.model_copy(update={"labels": {name: name for name in examples[0].choices}})

    def example(self, row: Row) -> Example:
        """Return the text of a row and its label; the labels must be known."""
        return self._labelled(self.labels or {}, self.label_names or (), row)

    def maker(self, source: Source) -> Callable[[Row], Example]:
        """Return the function that makes the example of a row: one of the training rows' labels."""
        names = self.labels if self.labels is not None else self._labels_of(source)
        return partial(self._labelled, names, tuple(names.values()))

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

    def _labels_of(self, source: Source) -> dict[str, str]:
        """Return the labels of the training rows that can be used, in their order."""
        if "train" not in source.splits:
            rows_of(source, "train")  # raises
        errors: list[DataError] = []
        rows = source.splits["train"](errors.append)
        usable = usable_rows(rows, self._label_of, errors)
        settle(errors, len(usable), self.bad_rows)
        counts = Counter(label for _, label in usable)
        if len(counts) == 1:
            (only,) = counts
            raise DataError(
                f"{rows[0].origin}: every training row has the label {only!r}; two are needed"
            )
        refuse_scores(counts, source.where)
        return {label: label for label in in_order(counts)}

    def _label_of(self, row: Row) -> str:
        """Return the label of a row that can be used."""
        label = label_value(row, self.label)
        self.prompt_of(row)
        return label

    def _labelled(self, names: dict[str, str], choices: tuple[str, ...], row: Row) -> Example:
        """Return the text of a row and the name of its label, which must be one of these."""
        label, example = label_value(row, self.label), self.prompt_of(row)
        if label not in names:
            where = (
                "never occurs in training" if self.labels is None else "is not one of task.labels"
            )
            hidden = (
                "-1 often stands for a hidden label: then leave the row out; "
                if label == "-1"
                else ""
            )
            raise DataError(
                f"{row.origin}: label {label!r} {where}; {hidden}{nearest(label, names)}"
            )
        return replace(example, target=names[label], choices=choices)
