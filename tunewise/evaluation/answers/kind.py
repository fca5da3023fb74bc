"""The base class of kinds of answers: its properties, and how answers are found and evaluated."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Required, TypedDict

from tunewise.data.cache import Ids
from tunewise.data.encode import Encoded, EncodedPrompts, encode_prompts
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import NotFiniteError
from tunewise.evaluation.evaluate import evaluate
from tunewise.metrics import Metric, Prediction
from tunewise.models import LanguageModel


class Answer(TypedDict, total=False):
    """The answer to a row, in the words of `Prediction`."""

    id: Required[str]
    row: Required[int | None]
    """The row's number in its file, from 0."""
    predicted: Required[str]
    """The likeliest label or choice, or the text that was written."""
    probabilities: dict[str, float]
    """The probability of each label or choice; not there for a written text."""


class NewAnswers(NamedTuple):
    """The answers to new rows."""

    answers: list[Answer]
    num_cut: int
    """Number of prompts that were too long and were cut."""


@dataclass(frozen=True)
class Inference:
    """A model in use: everything that answers are found with, beside the examples."""

    model: LanguageModel
    tokenizer: Tokenizer
    layout: Layout
    tokens_per_pass: int
    """The most tokens of one forward pass; the result does not depend on it."""
    seed: int
    """Seed of sampling; each example also has a place among all, which decides with it."""


class AnswerKind(ABC):
    """A kind of answer."""

    has_labels: ClassVar[bool] = False
    """Whether it is one of a few labels, so that a run has tables of labels."""
    uses_label_layer: ClassVar[bool] = False
    """Whether the labels have an output layer of their own."""
    writes_text: ClassVar[bool] = False
    """Whether it is a text that the model writes."""
    reads_sequences: ClassVar[bool] = True
    """Whether evaluation reads the encoded sequences themselves. Only then are their frozen states
    of use."""

    def suits(self, metric: Metric) -> bool:
        """Return whether a metric can be computed from such answers."""
        needed = {"label": self.has_labels, "text": self.writes_text, "likelihood": True}
        return needed[metric.of]

    @property
    def depends_on_place(self) -> bool:
        """Whether an example's answer depends on its place among all, as with sampling."""
        return False

    def reserved(self, tokenizer: Tokenizer) -> int:
        """Return how many ids are kept free behind a prompt, for the answer."""
        return 0

    def evaluate(
        self,
        inference: Inference,
        examples: Sequence[Example],
        sequences: Sequence[Encoded],
        write_texts: bool,
    ) -> list[Prediction]:
        """Return one prediction per example, whose expected answers are known.

        Args:
            sequences: the examples' tokens, each naming its example.
            write_texts: whether texts are written, which takes long; else they are only scored.
        """
        return evaluate(inference.model, examples, sequences, inference.tokens_per_pass)

    def answer_examples(self, inference: Inference, examples: Sequence[Example]) -> NewAnswers:
        """Return the answers to examples of which only the prompt is known.

        Raises:
            NotFiniteError: if the model's outputs are not finite.
        """
        prompts = self.prompts(inference, examples)
        answers = self.answer_prompts(inference, examples, prompts.ids)
        if broken := [answer["id"] for answer in answers if not _is_finite(answer)]:
            raise NotFiniteError.of(broken)
        return NewAnswers(answers, prompts.num_cut)

    @abstractmethod
    def answer_prompts(
        self, inference: Inference, examples: Sequence[Example], prompts: Sequence[Ids]
    ) -> list[Answer]:
        """Return the answer to each example, whose prompt has these ids."""

    def prompts(self, inference: Inference, examples: Sequence[Example]) -> EncodedPrompts:
        """Return the prompts of examples, cut where that is needed to leave room for the answer."""
        reserved = self.reserved(inference.tokenizer)
        return encode_prompts(examples, inference.tokenizer, inference.layout, reserved)


def _is_finite(answer: Answer) -> bool:
    """Return whether the probabilities of an answer, if it has any, are finite."""
    return all(map(math.isfinite, answer.get("probabilities", {}).values()))
