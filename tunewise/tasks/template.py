"""Templates: text with the names of columns in braces, `{premise}`. They are data, never code."""

from collections.abc import Callable
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def columns_of(template: str) -> list[str]:
    """Return the columns that a template names, in order.

    Raises:
        ValueError: if the braces do not pair or hold anything but a name, or two names have a star.
    """
    names = [name for _, name in _pieces(template) if name is not None]
    if sum(name.endswith("*") for name in names) > 1:
        raise ValueError(f"only one column of a template may have a star: {template!r}")
    return [name.removesuffix("*") for name in names]


def fill(template: str, value: Callable[[str], str]) -> tuple[str, str]:
    """Return the text of a template in two parts, of which only the first may be cut at its end.

    They meet behind the value of the column with a star (`{article*}`), or of the last column. What
    follows, such as `TL;DR:`, is the cue. Two braces `{{` stand for one.

    Args:
        value: returns the value of a column.
    """
    pieces = _pieces(template)
    columns = [index for index, (_, name) in enumerate(pieces) if name is not None]
    starred = [index for index in columns if (pieces[index][1] or "").endswith("*")]
    last = (starred or columns)[-1]
    parts = ["", ""]
    for index, (literal, name) in enumerate(pieces):
        text = literal if name is None else literal + value(name.removesuffix("*"))
        parts[index > last] += text
    return parts[0], parts[1]


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """Return the literal pieces of a template, each with the column after it, if there is one."""
    pieces = []
    for literal, name, specification, conversion in Formatter().parse(template):
        bare = (name or "").removesuffix("*")
        if name is not None and (not bare or "*" in bare or specification or conversion):
            raise ValueError(f"braces hold the name of a column, as in {{text}}: {template!r}")
        pieces.append((literal, name))
    return pieces


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
