"""The words and rules of the review grammar, read from the text files in this folder.

A file holds one entry a line; a line in brackets names the entries below it, and `#` begins a
comment. An entry listed twice is drawn twice as often.

    rules.txt               templates, by the name of their rule
    words/neutral/*.txt     words that lean to no side
    words/polar/*.txt       what the whole is, does and leaves behind: `NAME.txt` for any kind of
                            product, `NAME-FAMILY.txt` for one family
    words/adjectives/*.txt  adjectives, by the facet that they can describe
    words/parts/*.txt       parts of a product, by facet; "*" marks a plural
    words/kinds/*.txt       kinds of product; `kinds.txt` says how often each turns up

Everything polar is a pair, negative first, indexed by a polarity of 0 or 1 as `grammar.LABELS` is.
The two sides of a pair are about equally long, so neither label has the richer vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Words = tuple[str, ...]
Pair = tuple[Words, Words]

FOLDER = Path(__file__).parent
WORDS = FOLDER / "words"


@dataclass(frozen=True)
class Kind:
    """A kind of thing that people review, with the words that only make sense for it."""

    family: str
    """"art", "place" or "device": which nouns, verbs and closings fit."""
    things: Words
    facets: Words
    words: dict[str, Words]


def _lists(path: Path) -> dict[str, Words]:
    """Return the entries of a file by the name above them; "" for those above the first name."""
    lists: dict[str, list[str]] = {}
    name = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            name = line[1:-1]
        elif line and not line.startswith("#"):
            lists.setdefault(name, []).append(line)
    return {name: tuple(entries) for name, entries in lists.items()}


def _files(folder: str) -> Iterator[tuple[str, dict[str, Words]]]:
    """Yield the name of each file in a folder of words, and its lists."""
    for path in sorted((WORDS / folder).glob("*.txt")):
        yield path.stem.replace("-", " "), _lists(path)


def _pairs(folder: str) -> dict[str, Pair]:
    return {name: (lists["negative"], lists["positive"]) for name, lists in _files(folder)}


def _kind(lists: dict[str, Words]) -> Kind:
    words = dict(lists)
    (family,) = words.pop("family")
    return Kind(family, words.pop("things"), words.pop("facets"), words)


ADJECTIVES = _pairs("adjectives")
FACET_ADJECTIVES = {
    "tale": "story",
    "sound": "music",
    "care": "service",
    "dining": "place",
    "room": "place",
    "handling": "function",
}
"""The adjectives that fit a facet, where they are not those of its own name."""
PARTS = {facet: lists[""] for facet, lists in _files("parts")}
POLAR = _pairs("polar")
RULES = _lists(FOLDER / "rules.txt") | {name: lists[""] for name, lists in _files("neutral")}

_BY_NAME = {name: _kind(lists) for name, lists in _files("kinds")}
KINDS = tuple(_BY_NAME[name] for name in _lists(WORDS / "kinds.txt")[""])
