"""Text answers: the model writes them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from tunewise.data.cache import Ids
from tunewise.data.encode import Encoded
from tunewise.data.example import Example
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import NotFiniteError
from tunewise.evaluation.answers.kind import Answer, AnswerKind, Inference
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.generation.stop import text_of
from tunewise.metrics import Prediction


class ComparedTexts(NamedTuple):
    """Two texts as metrics compare them."""

    expected: str
    written: str


@dataclass(frozen=True)
class TextAnswer(AnswerKind):
    """A text of any length."""

    decoding: DecodingConfig
    compare: Callable[[Example, str], ComparedTexts]
    """Returns the expected and the written text of an example, as metrics compare them."""

    writes_text: ClassVar[bool] = True

    @property
    def depends_on_place(self) -> bool:
        """Whether tokens are sampled."""
        return self.decoding.temperature > 0

    def reserved(self, tokenizer: Tokenizer) -> int:
        """Return the most tokens that are written."""
        return self.decoding.max_new_tokens

    def evaluate(
        self,
        inference: Inference,
        examples: Sequence[Example],
        sequences: Sequence[Encoded],
        write_texts: bool,
    ) -> list[Prediction]:
        """Return the likelihood of each expected text, and the written text if asked.

        Where the model cannot write since its outputs are not finite, no likelihood is either.
        """
        predictions = super().evaluate(inference, examples, sequences, write_texts)
        if not write_texts:
            return predictions
        try:
            return self._with_texts(inference, examples, predictions)
        except NotFiniteError:  # the caller says which rows, and after which update
            return [replace(prediction, log_likelihood=math.nan) for prediction in predictions]

    def answer_prompts(
        self, inference: Inference, examples: Sequence[Example], prompts: Sequence[Ids]
    ) -> list[Answer]:
        """Return the text that is written for each example."""
        texts = self._write(inference, prompts)
        return [
            Answer(id=example.id, row=example.row, predicted=self.compare(example, text).written)
            for example, text in zip(examples, texts, strict=True)
        ]

    def _with_texts(
        self, inference: Inference, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> list[Prediction]:
        """Return the predictions with the text that the model writes for each example."""
        texts = self._write(inference, self.prompts(inference, examples).ids)
        with_texts = []
        for prediction, example, text in zip(predictions, examples, texts, strict=True):
            compared = self.compare(example, text)
            with_texts.append(
                replace(
                    prediction,
                    expected=compared.expected,
                    predicted=compared.written,
                    prompt=example.prompt + example.cue,
                )
            )
        return with_texts

    def _write(self, inference: Inference, prompts: Sequence[Ids]) -> list[str]:
        """Return the text that the model writes after each prompt."""
        outputs = generate(
            inference.model,
            prompts,
            inference.tokenizer,
            self.decoding,
            inference.seed,
            inference.tokens_per_pass,
        )
        return [text_of(ids, inference.tokenizer, self.decoding) for ids in outputs]
