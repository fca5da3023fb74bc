"""The base class of tasks whose answer is a text of any length."""

import logging
from collections.abc import Sequence

from pydantic import Field

from tunewise.data.encode import EncodedSplit, LossOn, encode_answered
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.rows import Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import DataError
from tunewise.evaluation.answers import ComparedTexts, TextAnswer
from tunewise.generation.config import DecodingConfig
from tunewise.tasks.task import Task

logger = logging.getLogger(__name__)


class TextTask(Task):
    """A prompt and the text that answers it."""

    loss_on: LossOn = "answer"
    """The scored tokens: those of the answer, or those of the prompt too (`everything`)."""
    max_answer: int | None = Field(default=None, gt=0)
    """Most characters of an answer; rows with a longer one are dropped, and their number is
    logged."""
    decoding: DecodingConfig = DecodingConfig()
    """Settings of the decoding of answers."""

    @property
    def answer_kind(self) -> TextAnswer:
        """A text, written as `decoding` says."""
        return TextAnswer(self.decoding, self.compared_texts)

    def kept(self, split: Split, examples: list[Example]) -> list[Example]:
        """Return the examples with an answer that is not too long; the others are counted."""
        lengths = [len(example.target.strip()) for example in examples]
        longest = self.max_answer or max(lengths)
        for count, why in (
            (sum(length == 0 for length in lengths), "no answer"),
            (sum(length > longest for length in lengths), f"answers of over {longest} characters"),
        ):
            if count:
                logger.warning("%s: %d rows with %s are dropped", split, count, why)
        usable = [e for e, length in zip(examples, lengths, strict=True) if 0 < length <= longest]
        if not usable:
            raise DataError(f"task {self.name!r}: no row of the {split} split has a usable answer")
        return usable

    def encode(
        self, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout
    ) -> EncodedSplit:
        """Return one sequence per example: prompt, answer and end of text."""
        return encode_answered(examples, tokenizer, layout, self.loss_on)

    def compared_texts(self, example: Example, output: str) -> ComparedTexts:
        """Return the expected and the written text, as metrics compare them."""
        return ComparedTexts(example.target.strip(), output.strip())
