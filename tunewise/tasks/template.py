"""Templates: text with the names of columns in braces, `{premise}`. They are never run as code."""

from collections.abc import Callable
from dataclasses import dataclass
from string import Formatter
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator

from tunewise.data.example import MarkedText
from tunewise.data.names import tidy


@dataclass(frozen=True)
class Filled:
    """A template with a row's values in it, in two parts."""

    prompt: MarkedText
    """The part that may be cut at its end."""
    cue: MarkedText
    """The part that follows, such as `TL;DR:`."""

    @property
    def whole(self) -> MarkedText:
        """Both parts as one text."""
        return self.prompt + self.cue


class TemplatePart(NamedTuple):
    """A literal part of a template, and the column after it."""

    literal: str
    column: str | None
    """None after the last column."""
    has_star: bool


def columns_of(template: str) -> list[str]:
    """Return the columns that a template names, in order.

    Raises:
        ValueError: if the braces do not pair or hold anything but a name, or two names have a star.
    """
    parts = _parts(template)
    if sum(part.has_star for part in parts) > 1:
        raise ValueError(f"only one column of a template may have a star: {template!r}")
    return [part.column for part in parts if part.column is not None]


def fill(template: str, value: Callable[[str], str]) -> Filled:
    """Return a template with values for its columns.

    The part that may be cut ends after the column with a star (`{article*}`), or after the last
    column. Two braces `{{` stand for one.

    Args:
        value: returns the value of a column.
    """
    parts = _parts(template)
    starred = [index for index, part in enumerate(parts) if part.has_star]
    named = [index for index, part in enumerate(parts) if part.column is not None]
    last = (starred or named)[-1]
    prompt, cue = MarkedText(), MarkedText()
    for index, part in enumerate(parts):
        text = MarkedText.literal(part.literal)
        if part.column is not None:
            text += MarkedText(value(part.column))
        if index <= last:
            prompt += text
        else:
            cue += text
    return Filled(prompt, cue)


def expression_of(template: str) -> str:
    """Return the Python expression of a filled template, with columns read from a dict `row`."""
    pieces = []
    for part in _parts(template):
        pieces += [repr(part.literal)] if part.literal else []
        pieces += [f"row[{part.column!r}]"] if part.column is not None else []
    return " + ".join(pieces)


def _parts(template: str) -> list[TemplatePart]:
    """Return the parts of a template, of which only the last may have no column."""
    parts: list[TemplatePart] = []
    literal = ""
    for text, name, specification, conversion in Formatter().parse(template):
        literal += text  # two braces end a part of the formatter's, but not one of ours
        if name is None:
            continue
        name = tidy(name)
        column = tidy(name.removesuffix("*"))
        if not column or "*" in column or specification or conversion:
            raise ValueError(f"braces hold the name of a column, as in {{text}}: {template!r}")
        parts.append(TemplatePart(literal, column, has_star=name.endswith("*")))
        literal = ""
    return [*parts, TemplatePart(literal, None, has_star=False)] if literal else parts


def _in_quotes(template: Any) -> Any:
    if isinstance(template, dict):
        raise ValueError(
            "YAML reads its braces; put it in quotes, as in task.template=\"'{text}'\""
        )
    return template


def _checked(template: str) -> str:
    columns_of(template)
    return template


def _with_columns(template: str) -> str:
    if not columns_of(template):
        raise ValueError(f"names no column, such as {{text}}: {template!r}")
    return template


Template = Annotated[
    str, BeforeValidator(_in_quotes), AfterValidator(_checked), AfterValidator(_with_columns)
]
"""A template that names one column at least."""
