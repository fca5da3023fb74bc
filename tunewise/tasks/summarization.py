"""Summarization: an article, and its summary after "TL;DR:" (Radford et al. 2019, section 3.6)."""

from typing import Literal

from tunewise.data.example import Example
from tunewise.data.rows import Row
from tunewise.tasks.template import Template, columns_of
from tunewise.tasks.text_task import TextTask


class Summarization(TextTask):
    """An article, a cue, and the summary to be written; a long article loses its end."""

    kind: Literal["summarization"] = "summarization"
    template: Template = "{article}\nTL;DR:"
    """The prompt, with columns in braces."""
    summary: Template = " {highlights}"
    """The summary, with columns in braces."""

    metrics: tuple[str, ...] = ("loss", "perplexity", "rouge1", "rouge2", "rougeL")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (*self.prompt_columns, *columns_of(self.summary))

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a prompt is made of."""
        return tuple(columns_of(self.template))

    def example(self, row: Row) -> Example:
        """Return the example that a row makes."""
        return self.prompt_of(row).with_target(self.fill(self.summary, row).whole)

    def prompt_of(self, row: Row) -> Example:
        """Return the article of a row, and the cue."""
        filled = self.fill(self.template, row)
        return Example.asking(row.id, filled.prompt, filled.cue)
