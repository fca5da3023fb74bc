"""Generation: a text is completed from its first lines, or a prompt gets its completion."""

from typing import Literal

from pydantic import Field

from tunewise.data.example import Example, MarkedText
from tunewise.data.names import Column
from tunewise.data.rows import Row
from tunewise.errors import DataError
from tunewise.evaluation.answers import ComparedTexts
from tunewise.tasks.template import Template, columns_of
from tunewise.tasks.text_task import TextTask


class Generation(TextTask):
    """The first lines of a text and the rest of it; or two columns, a prompt and its completion."""

    kind: Literal["generation"] = "generation"
    text: Column | None = None
    """The column with whole texts, of which the first `given_lines` are the prompt."""
    given_lines: int = Field(default=3, gt=0)
    """Number of lines of a whole text that are the prompt."""
    template: Template = "{prompt}"
    """Without `text`: the prompt, with columns in braces."""
    completion: Template = "{completion}"
    """Without `text`: the completion, with columns in braces."""
    judge_whole: bool = False
    """Whether metrics compare whole texts, the prompt included, as published for sonnets."""

    metrics: tuple[str, ...] = ("loss", "perplexity", "chrf", "bleu")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        if self.text is not None:
            return (self.text,)
        return (*self.prompt_columns, *columns_of(self.completion))

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a prompt is made of; none for the first lines of a whole text."""
        return tuple(columns_of(self.template)) if self.text is None else ()

    def example(self, row: Row) -> Example:
        """Return the example that a row makes."""
        if self.text is None:
            return self.prompt_of(row).with_target(self.fill(self.completion, row).whole)
        lines = self.read(row, self.text).splitlines(keepends=True)
        if len(lines) <= self.given_lines:
            raise DataError(
                f"{row.origin}: column {self.text!r} has {len(lines)} lines; more than "
                f"task.given_lines ({self.given_lines}) are needed"
            )
        return self.prompt_of(row).with_target(MarkedText("".join(lines[self.given_lines :])))

    def prompt_of(self, row: Row) -> Example:
        """Return the first lines of a row's text, or its prompt."""
        if self.text is None:
            filled = self.fill(self.template, row)
            return Example.continuing(row.id, filled.prompt, filled.cue)
        lines = self.read(row, self.text).splitlines(keepends=True)
        return Example.continuing(row.id, MarkedText("".join(lines[: self.given_lines])))

    def compared_texts(self, example: Example, output: str) -> ComparedTexts:
        """Return the expected and the written text, as metrics compare them."""
        if not self.judge_whole:
            return super().compared_texts(example, output)
        prompt = example.prompt + example.cue
        return ComparedTexts((prompt + example.target).strip(), (prompt + output).strip())
