"""Cloze: the answer is the likeliest continuation among a few texts, the verbalizers.

Schick and Schütze, https://arxiv.org/abs/2001.07676. There is no new output layer: the
model's knowledge of words such as "yes" and "no" is used and trained.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Literal

from pydantic import Field, field_validator

from tunewise.data.encode import EncodedSplit, encode_answered
from tunewise.data.example import Example, MarkedText
from tunewise.data.layout import Layout
from tunewise.data.names import Column
from tunewise.data.rows import Row
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, DataError, nearest
from tunewise.evaluation.answers import ChoiceAnswer
from tunewise.tasks.labels import label_value, with_plain_keys
from tunewise.tasks.task import Task
from tunewise.tasks.template import Template, columns_of


class Cloze(Task):
    """A question as a template, and a verbalizer for each label."""

    kind: Literal["cloze"] = "cloze"
    template: Template
    """The question, with columns in braces: `Is "{text}" good or bad? It is`."""
    label: Column = "label"
    """The column with the label: a text, a number or a truth value."""
    verbalizers: dict[str, str] = Field(min_length=2)
    """Each label as it is in the rows, and the text that stands for it, such as `" yes"`."""

    metrics: tuple[str, ...] = ("accuracy", "f1", "loss")

    _labels_are_text = field_validator("verbalizers", mode="before")(with_plain_keys)

    @field_validator("verbalizers")
    @classmethod
    def _texts_differ(cls, verbalizers: dict[str, str]) -> dict[str, str]:
        texts = list(verbalizers.values())
        if empty := [text for text in texts if not text.strip()]:
            raise ValueError(f"{empty[0]!r} is empty")
        if len({text.strip() for text in texts}) < len(texts):
            raise ValueError("two are the same apart from spaces around them")
        return verbalizers

    @property
    def answer_kind(self) -> ChoiceAnswer:
        """The likeliest of the verbalizers."""
        return ChoiceAnswer(tuple(self.verbalizers.values()))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (*self.prompt_columns, self.label)

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a prompt is made of."""
        return tuple(columns_of(self.template))

    @property
    def label_column(self) -> str:
        """The column with the label."""
        return self.label

    def example(self, row: Row) -> Example:
        """Return the question that a row makes, and the text of its label."""
        label = label_value(row, self.label)
        if label not in self.verbalizers:
            hint = nearest(label, self.verbalizers)
            raise DataError(f"{row.origin}: label {label!r} has no verbalizer; {hint}")
        return self.prompt_of(row).with_target(MarkedText.literal(self.verbalizers[label]))

    def prompt_of(self, row: Row) -> Example:
        """Return the question that a row makes, and the texts that may answer it."""
        filled = self.fill(self.template, row)
        return Example.asking(row.id, filled.prompt, filled.cue, self.answer_kind.choices)

    def encode(
        self, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout
    ) -> EncodedSplit:
        """Return one sequence per example: the question and its answer, whose tokens are scored.

        Raises:
            ConfigError: if a verbalizer is so long that it would be cut, or begins another one.
        """
        verbalizers = self.answer_kind.ids(tokenizer)
        longest = max(map(len, verbalizers))
        if longest > layout.text_length // 2:
            raise ConfigError(
                f"task.verbalizers: the longest has {longest} tokens; at most half of the "
                f"{layout.text_length} tokens of a sequence are for the answer"
            )
        for shorter, longer in permutations(verbalizers, 2):
            if longer[: len(shorter)] == shorter:
                raise ConfigError(
                    f"task.verbalizers: the tokens of {tokenizer.decode(shorter)!r} begin those of "
                    f"{tokenizer.decode(longer)!r}, so it would always be likelier"
                )
        return encode_answered(examples, tokenizer, layout, end=False)
