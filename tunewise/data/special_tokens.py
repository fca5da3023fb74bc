"""Special tokens: templates may write them by name, rows never can."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import tokenizers

from tunewise.data.example import MarkedText


class Named(NamedTuple):
    """A special token, and the place in a text that names it."""

    start: int
    stop: int
    id: int


class SpecialTokens:
    """The special tokens of a vocabulary.

    Args:
        added: the tokens that were added to a vocabulary, by id, special or not.
    """

    def __init__(self, added: Mapping[int, tokenizers.AddedToken]) -> None:
        special = [(token, id) for id, token in added.items() if token.special and token.content]
        special.sort(key=lambda pair: -len(pair[0].content))  # the longest of those that fit
        self.ids = [id for _, id in special]
        self._pattern = re.compile("|".join(_pattern(token) for token, _ in special) or "(?!)")
        self._named: dict[str, list[Named]] = {}

    def split(self, text: MarkedText) -> list[str | int]:
        """Return a text in parts: the ids of special tokens in its literals, and the text between.

        A text without any is one part, whose ids are those of the text as a whole.
        """
        parts: list[str | int] = []
        done = 0
        for start, stop in text.literals:
            for named in self._named_in(text.value[start:stop]):
                parts += [text.value[done : start + named.start], named.id]
                done = start + named.stop
        parts.append(text.value[done:])
        return parts if len(parts) == 1 else [part for part in parts if part != ""]

    def _named_in(self, literal: str) -> list[Named]:
        """Return the special tokens that a literal names, from a memory: literals are few."""
        if literal not in self._named:
            self._named[literal] = [
                Named(*match.span(), self.ids[(match.lastindex or 0) - 1])
                for match in self._pattern.finditer(literal)
            ]
        return self._named[literal]


def _pattern(token: tokenizers.AddedToken) -> str:
    """Return a pattern of a token's name in a group, with the spaces around it that it includes."""
    before = r"\s*" if token.lstrip else ""
    after = r"\s*" if token.rstrip else ""
    return f"{before}({re.escape(token.content)}){after}"
