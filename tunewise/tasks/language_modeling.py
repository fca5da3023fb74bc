"""Language modelling: whole texts, each token predicted from those before it."""

from collections.abc import Sequence
from typing import Literal

from tunewise.data.encode import EncodedSplit, encode_texts_whole
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.names import Column
from tunewise.data.rows import Row
from tunewise.data.tokenizer import Tokenizer
from tunewise.evaluation.answers import NoAnswer
from tunewise.tasks.task import Task


class LanguageModeling(Task):
    """A text to learn. A long one is cut into consecutive pieces: books can be trained on."""

    kind: Literal["language_modeling"] = "language_modeling"
    text: Column = "text"
    """The column with the text; a .txt file is one text."""

    metrics: tuple[str, ...] = ("loss", "perplexity")

    @property
    def answer_kind(self) -> NoAnswer:
        """No answer: a text is only learned."""
        return NoAnswer()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (self.text,)

    def example(self, row: Row) -> Example:
        """Return the text of a row, all of which is learned."""
        return Example(row.id, prompt="", target=self.read(row, self.text))

    def encode(
        self, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout
    ) -> EncodedSplit:
        """Return the pieces of all texts."""
        return encode_texts_whole(examples, tokenizer, layout)
