"""A seeded grammar of reviews: the `pocket_reviews` task, and text to pretrain on.

A rule is a list of templates (`rules.txt`), and a template holds slots, which are filled from left
to right by other rules or by words (`lexicon.py`). A sign makes a slot's polarity relative to the
sentence it stands in: `{+adj}` is a word of the review's own side, `{-adj}` one of the other side.
Most templates therefore serve both labels, and most reviews hold words of both sides: counting
words says little about the label, reading how they are combined says everything.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

from tunewise.pocket.lexicon import (
    ADJECTIVES,
    FACET_ADJECTIVES,
    KINDS,
    PARTS,
    POLAR,
    RULES,
    Words,
)

LABELS = ("negative", "positive")

SPLIT_SIZES = {"train": 2000, "validation": 500, "test": 500}
_SPLIT_SEED = 20240229
_REVIEW_WORDS = range(6, 41)

_POINTS = {
    "plain": 12,
    "denial": 6,
    "contrast": 7,
    "hearsay": 5,
    "expectation": 4,
    "comparison": 4,
    "hedge": 2,
}
"""The rules that decide a review, and how often each is drawn.

Single words give "plain" away; the others mostly name both sides. With these weights, counting
words gets some 70 % of the labels right.
"""

_SLOT = re.compile(r"\{([+-]?)(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=(?!one|use|unit|uniq|univ|unif|eur)[aeiouE]|hour|honest)")
_DOUBLED = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")


@dataclass(frozen=True)
class Review:
    """A short review and the side it is on."""

    text: str
    label: str
    """One of `LABELS`."""


def reviews(seed: int) -> Iterator[Review]:
    """Yield an endless stream of short labelled reviews, which is the same for the same seed.

    The label is what the reviewer thinks of the whole, and both labels are equally likely. A text
    may occur more than once.
    """
    rng = random.Random(f"reviews {seed}")
    while True:
        polarity = rng.randrange(2)
        text = _short_review(rng, polarity)
        short = len(text.split()) in _REVIEW_WORDS and len(_sentences(text)) <= 3
        if short and not _DOUBLED.search(text):
            yield Review(text, LABELS[polarity])


def split_reviews(split: str) -> list[Review]:
    """Return a split of the `pocket_reviews` task: balanced, shuffled, the same on every machine.

    No text occurs twice, within a split or across them.

    Args:
        split: a key of `SPLIT_SIZES`.
    """
    return list(_splits()[split])


def passages(seed: int) -> Iterator[str]:
    """Yield an endless stream of longer unlabelled reviews, the same for the same seed.

    They are for pretraining: none holds the whole text of a `pocket_reviews` example as consecutive
    sentences, so a model pretrained on them has not seen the task's texts.
    """
    taken = {review.text for split in SPLIT_SIZES for review in split_reviews(split)}
    longest = max(len(_sentences(text)) for text in taken)
    rng = random.Random(f"passages {seed}")
    while True:
        text = _passage(rng, rng.randrange(2))
        sentences = _sentences(text)
        excerpts = (
            " ".join(sentences[start : start + length])
            for start in range(len(sentences))
            for length in range(1, longest + 1)
        )
        well_formed = 2 <= len(sentences) <= 8 and not _DOUBLED.search(text)
        if well_formed and taken.isdisjoint(excerpts):
            yield text


@cache
def _splits() -> dict[str, tuple[Review, ...]]:
    by_label: dict[str, dict[str, Review]] = {label: {} for label in LABELS}
    per_label = sum(SPLIT_SIZES.values()) // len(LABELS)
    for review in reviews(_SPLIT_SEED):
        if len(by_label[review.label]) < per_label:
            by_label[review.label][review.text] = review
        if all(len(texts) == per_label for texts in by_label.values()):
            break
    streams = [iter(texts.values()) for texts in by_label.values()]
    rng = random.Random(_SPLIT_SEED)
    splits = {}
    for split, size in SPLIT_SIZES.items():
        rows = [row for stream in streams for row in islice(stream, size // len(LABELS))]
        rng.shuffle(rows)
        splits[split] = tuple(rows)
    return splits


def _short_review(rng: random.Random, polarity: int) -> str:
    """Return one to three sentences: one decides, the others agree with it or are neutral."""
    writer = _Writer(rng)
    before = rng.choice(["setting", "praise", "", ""])
    point = rng.choices(list(_POINTS), weights=list(_POINTS.values()))[0]
    after = rng.choice(["close", "remark", "", ""])
    rules = filter(None, (before, point, after))
    return " ".join(writer.sentence(rule, polarity) for rule in rules)


def _passage(rng: random.Random, polarity: int) -> str:
    """Return a review of several sentences that keeps to its side, except for what it concedes."""
    writer = _Writer(rng)
    body = ["praise", "praise", "praise", "remark", "remark", "plain", *_POINTS]
    middle = [rng.choice(body) for _ in range(rng.randrange(1, 7))]
    rules = ["opening", *middle, *(["close"] if rng.random() < 0.7 else [])]
    return " ".join(writer.sentence(rule, polarity) for rule in rules)


class _Writer:
    """Fills templates about one product, and remembers which words it has used."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kind = rng.choice(KINDS)
        self.thing = rng.choice(self.kind.things)
        self.genre = rng.choice(self.kind.words["genre"])
        self.past = rng.random() < 0.5
        self.used: set[str] = set()
        self.title = self.write("title", 0) if self.kind.family == "art" else ""
        self.named = False
        self.facet = ""
        self.plural = False

    def sentence(self, rule: str, polarity: int) -> str:
        """Return a rule's text as one or more finished sentences."""
        text = _ARTICLE.sub(r"\1n ", self.write(rule, polarity))
        mark = "!" if self.rng.random() < 0.06 else "."
        return " ".join(part[0].upper() + part[1:] for part in _sentences(text + mark))

    def write(self, rule: str, side: int) -> str:
        """Return a text for a rule or a list of words, written from one side: 0 or 1."""

        def fill(slot: re.Match[str]) -> str:
            sign, name = slot.groups()
            return self._slot(name, 1 - side if sign == "-" else side)

        return _SLOT.sub(fill, self._pick(self._options(rule, side)))

    def _slot(self, name: str, side: int) -> str:
        family = self.kind.family
        match name:
            case "it":
                return self._it()
            case "this":
                self.named = False
                return self._it()
            case "is":
                return "was" if self.past else "is"
            case "be":  # agrees with the part named last
                return ("were" if self.past else "are") if self.plural else self._slot("is", side)
            case "part":
                return f"the {self._part()}"
            case "rich":
                part = self._part()
                return f"the {self._slot('trait', side)} {part}"
            case "trait":
                return self._adjective(self.facet, side)
            case "mild_trait":
                return self._pick(_traits(self.facet, side))
            case "adj":
                return self._adjective(family, side)
            case "mild":
                return self._pick(_traits(family, side))
            case "liked":
                verb = self.write("like", side)
                return verb + ("d" if verb.endswith("e") else "ed")
            case "thing":
                return self.thing
            case "thing_s":
                return _plural(self.thing)
            case "kind":
                return f"{self.genre} {self.thing}"
            case "rival":
                self.named = False  # from here on "it" could be the rival
                return self.write("rival", side)
            case _:
                return self.write(name, side)

    def _it(self) -> str:
        """Return a way to refer to the product: by name first, then mostly by pronoun."""
        if self.named and self.rng.random() < 0.75:
            return "it"
        names = [f"this {self.thing}", f"the {self.thing}"]
        if not self.named:
            names += [self.title or f"this {self._slot('kind', 0)}"]
        self.named = True
        return self.rng.choice(names)

    def _part(self) -> str:
        self.facet = self.rng.choice(self.kind.facets)
        part = self._pick(PARTS[self.facet])
        self.plural = part.startswith("*")
        return part.removeprefix("*")

    def _adjective(self, facet: str, side: int) -> str:
        # A price can be fair or steep, but hardly superb.
        anything_goes = facet != "price" and self.rng.random() < 0.3
        return self._pick(_traits("general" if anything_goes else facet, side))

    def _options(self, name: str, side: int) -> Words:
        family = f"{name} {self.kind.family}"
        options = self.kind.words.get(name, ()) + RULES.get(name, ()) + RULES.get(family, ())
        for key in (name, family):
            if key in POLAR:
                options += POLAR[key][side]
        return options

    def _pick(self, options: Words) -> str:
        """Return one of the options, preferably one that was not used before."""
        choice = self.rng.choice([word for word in options if word not in self.used] or options)
        self.used.add(choice)
        return choice


def _traits(facet: str, side: int) -> Words:
    return ADJECTIVES[FACET_ADJECTIVES.get(facet, facet)][side]


def _plural(noun: str) -> str:
    if noun.endswith("s"):
        return noun  # "series"
    if noun.endswith("y"):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith("ch") else f"{noun}s"


def _sentences(text: str) -> list[str]:
    return _SENTENCE_END.split(text)
