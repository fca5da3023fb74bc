"""An article and its summary, asked for with "TL;DR:" (Radford et al. 2019, section 3.6)."""

from dataclasses import replace
from typing import ClassVar, Literal

from tunewise.data.example import Example
from tunewise.data.rows import Row
from tunewise.tasks.answered import Answered
from tunewise.tasks.template import Template, columns_of


class Summarization(Answered):
    """An article, a cue, and the summary to be written; a long article loses its end."""

    kind: Literal["summarization"] = "summarization"
    template: Template = "{article}\nTL;DR:"
    """What is given, with columns in braces."""
    summary: Template = " {highlights}"
    """What is to be written, with columns in braces."""

    metrics: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "rouge1", "rouge2", "rougeL")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (*columns_of(self.template), *columns_of(self.summary))

    def example(self, row: Row) -> Example:
        """Return the example that a row makes."""
        return replace(self.given(row), target="".join(self.fill(self.summary, row)))

    def given(self, row: Row) -> Example:
        """Return the article of a row, and the cue."""
        prompt, cue = self.fill(self.template, row)
        return Example(row.id, prompt, "", cue=cue)
