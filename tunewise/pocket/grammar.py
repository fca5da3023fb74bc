"""A seeded grammar of reviews: the `pocket_reviews` task, and text to pretrain on.

A template holds slots, filled from left to right. A sign makes a slot's polarity relative to the
sentence it stands in: `{+adj}` is a word of the review's own side, `{-adj}` one of the other side.
Most templates therefore serve both labels, and the words of both sides meet in most reviews:
counting words says little about the label, reading how they are combined says everything.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

from tunewise.pocket.lexicon import ADJECTIVES, FACET_ADJECTIVES, KINDS, PARTS, POLAR, Words

LABELS = ("negative", "positive")

SPLIT_SIZES = {"train": 2000, "validation": 500, "test": 500}
_SPLIT_SEED = 20240229
_REVIEW_WORDS = range(6, 41)

# What decides a review and how often. "plain" can be told from single words; the others mostly
# name both sides. As weighted here, counting words gets some 70 % of the labels.
_POINTS = {
    "plain": 12,
    "denial": 6,
    "contrast": 7,
    "hearsay": 5,
    "expectation": 4,
    "comparison": 4,
    "hedge": 2,
}

_FRIENDS = (
    "my brother", "my sister", "a colleague", "my neighbor", "my best friend", "my husband",
    "my wife", "my father", "my mother", "my cousin", "my roommate", "my daughter", "my son",
)  # fmt: skip

RULES: dict[str, Words] = {
    # The whole is of the review's own side.
    "claim": (
        "{it} {is} {+adj}",
        "{it} {is} {deg} {+adj}",
        "{it} {is} {+adj} and {+adj}",
        "{it} {is} a {+noun}",
        "this {is} a {+adj} {thing}",
        "{it} {is} {deg} a {+noun}",
        "the whole thing {is} {+adj}",
        "on the whole {it} {is} {+adj}",
        "in the end {it} {is} a {+noun}",
    ),
    "verdict": (
        "{+claim}",
        "{+claim}",
        "{it} {+did}",
        "{it} {+did}",
        "{it} left me {+feeling}",
        "I found {it} {+adj}",
        "I {+liked} {it}",
        "I {+liked} every {unit}",
        "I came away {+feeling}",
        "I'd call {it} a {+noun}",
    ),
    # One part is.
    "praise": (
        "{part} {be} {+trait}",
        "{part} {be} {deg} {+trait}",
        "{part} {be} {+trait} and {+trait}",
        "I found {part} {+trait}",
    ),
    "plain": (
        "{+verdict}",
        "{+verdict}",
        "{part} {be} {+trait} and {it} {+did}",
        "a {+adj} {kind}, and {+praise}",
        "{+praise}, and {+praise}",
        "thanks to {+rich}, {+verdict}",
        "with {+rich} and {+rich}, {it} {is} {+adj}",
        "{+adj}, {+adj}, {+adj}: {+verdict}",
        "from the first {unit} to the last, {it} {is} {+adj}",
    ),
    # The other side's words, denied.
    "denial": (
        "there {is} nothing {-adj} about {it}",
        "{it} {is} anything but {-adj}",
        "{it} {is} far from {-adj}",
        "I can't say {it} was {-adj}",
        "I can't say I was {-feeling}",
        "I can't say that {it} {-did}",
        "{it} {is} never {-adj}",
        "nobody could call {it} {-adj}",
        "nobody could call {it} a {-noun}",
        "not for one {unit} did I find {it} {-adj}",
        "{it} {is} not {-adj} at all",
        "{it} {is} not {-adj}, not {-adj}, {deg} {+adj}",
        "{it} {is} in no way {-adj}",
        "don't let anyone tell you {it} {is} {-adj}",
        "{it} {is} the opposite of {-adj}",
        "{it} {is} anything but a {-noun}",
        "{it} {is} not the {-noun} {i_heard_of}",
        "this {is} not the {-adj} {thing} {i_heard_of}",
        "I didn't {-like} a single {unit}",
        "I didn't {-like} {it} for a moment",
        "{it} never left me {-feeling}",
        "{part} {be} not {-trait}, and {it} {is} not a {-noun}",
        "{it} {is} neither {-adj} nor {-adj}",
        "I have yet to find anything {-adj} about {it}",
        "{-adj} is the last word I would use for {it}",
    ),
    "denial art": (
        "you won't find a {-adj} {unit} in {it}",
        "there isn't a {-adj} {unit} in {it}",
        "{maker} did not give us a {-noun}, or anything {-adj}",
    ),
    # A part speaks for the other side; the whole decides, whichever comes first.
    "contrast": (
        "{-praise}, but {+verdict}",
        "{-praise}, but {+verdict}",
        "{-praise}, yet {+verdict}",
        "{-praise}. Even so, {+verdict}",
        "{-praise}; all the same, {+verdict}",
        "{-praise} and {-praise}, but {+verdict}",
        "although {-praise}, {+verdict}",
        "even if {-praise}, {+verdict}",
        "true, {-praise}, but {+denial}",
        "{+verdict}, even though {-praise}",
        "{+verdict}, although {-praise}",
        "{+verdict} despite {-rich}",
        "{+verdict}, for all {-rich}",
        "despite {-rich}, {+verdict}",
        "for all {-rich}, {+verdict}",
        "not even {-rich} could change my mind: {+verdict}",
        "{-rich} can't hide the fact that {+verdict}",
        "{-praise}. What matters more is that {+verdict}",
        "you may find {part} {-trait}, but as a whole {it} {is} {+adj}",
    ),
    # Somebody else's opinion, refuted or shared.
    "hearsay": (
        "everyone told me {it} was {-adj}, and everyone was wrong",
        "everyone told me {it} was {+adj}, and everyone was right",
        "{someone} called {it} {-adj}. I could not disagree more",
        "{someone} called {it} {+adj}. I could not agree more",
        "{someone} found {it} {-adj} and {-adj}, but I don't see why",
        "{someone} found {it} {+adj} and {+adj}, and I see why",
        "whoever called {it} {-adj} must have {past} a different {thing}",
        "the reviews said {-adj}, I say {+adj}",
        "{someone} thought {it} was a {-noun}, which is nonsense",
        "{someone} thought {it} was a {+noun}, which is true",
        "ignore anyone who calls {it} {-adj}",
        "believe anyone who calls {it} {+adj}",
        "how anyone could find {it} {-adj} is beyond me",
        "people keep calling {it} a {-noun}. It is nothing of the kind",
        "people keep calling {it} a {+noun}. It is exactly that",
        "{someone} said it would leave me {-feeling}; it left me {+feeling}",
        "I refuse to join those who {-like} {it}: {+verdict}",
        "calling {it} {-adj} would be a lie",
        "calling {it} {+adj} would be no lie",
        "I don't believe those who say {-claim}",
        "I believe those who say {+claim}",
    ),
    "expectation": (
        "I expected a {-adj} {thing}, but {it} {is} {+adj}",
        "I expected a {+adj} {thing}, and that is exactly what I got",
        "I expected something {-adj} and got something {+adj}",
        "{it} seemed {-adj} at first, but turned out to be {+adj}",
        "{it} seemed {+adj} at first, and so it turned out to be",
        "I was told to expect a {-noun} and got a {+noun}",
        "I thought it would be {-adj}, and I was wrong",
        "I thought it would be {+adj}, and I was right",
        "what looked like a {-noun} turned out to be a {+noun}",
        "what sounded {-adj} on paper {is} {+adj} in fact",
        "it could so easily have been {-adj}; instead {it} {is} {+adj}",
        "it should have been a {-noun}, and {it} {is} a {+noun}",
        "with {-rich} I thought it would be {-adj}, but no: {+verdict}",
        "I was ready to {-like} {it}, but I can't: {+verdict}",
        "I was ready to {-like} {it}. Instead I came away {+feeling}",
    ),
    "comparison": (
        "{rival} was {-adj}, but this one {is} {+adj}",
        "{rival} was a {-noun}. This {thing} {is} a {+noun}",
        "unlike {rival}, which was {-adj}, {it} {is} {+adj}",
        "like {rival}, {it} {is} {+adj}",
        "{it} {is} {+adj} where {rival} was {-adj}",
        "{it} makes {rival} look {-adj}: {+verdict}",
        "next to {it}, {rival} seems {-adj}, because {+verdict}",
        "I {-liked} {rival}, but {+verdict}",
        "I have {past} many {-adj} {thing_s} this year, and this is not one of them",
        "I have {past} many {+adj} {thing_s} this year, and this is one of them",
        "if you {-liked} {rival}, prepare for a change: {+verdict}",
        "{rival} left me {-feeling}; this one left me {+feeling}",
        "{rival} {-did}, and yet this one {+did}",
        "{rival} was a {-noun}, so I can't explain why {+verdict}",
    ),
    "hedge": (
        "I suppose {it} {is} rather {+mild} in its way",
        "perhaps {part} {be} rather {-mild_trait}, still {+verdict}",
        "{it} may be somewhat {-mild} in places, but I think {+verdict}",
        "maybe I am in the wrong mood, but to me {it} {is} fairly {+mild}",
        "I am no expert, but I would say {+claim}",
        "it seems to me that {it} {is} rather {+mild}, if not quite a {+noun}",
        "I am tempted to call {it} {+mild}",
        "some of it {is} {-mild}, I admit, yet most of it {is} {+mild}",
        "here and there {it} {is} {-mild}; mostly {it} {is} {+mild}",
    ),
    "deg": (
        "truly", "really", "simply", "just", "honestly", "absolutely", "without doubt", "clearly",
        "genuinely", "frankly", "surely", "certainly", "plainly",
    ),
    "i_heard_of": (
        "I had heard about", "everyone talks about", "{someone} described", "I expected",
        "the reviews describe", "people say it is", "I had prepared for",
    ),
    "friend": _FRIENDS,
    "someone": (
        *_FRIENDS, "the critics", "the local paper", "a reviewer I trust", "half the internet",
    ),
    # Nothing here leans to a side.
    "setting": (
        "I {saw} {this} {where}",
        "we {saw} {this} {where}",
        "I {saw} {this} {when}",
        "I {saw} {this} {when} {company}",
        "we {saw} {this} {when}",
        "{friend} and I {saw} {this} {when}",
        "I {saw} {this} because of {someone}",
    ),
    "when": (
        "last weekend", "last night", "in March", "over the holidays", "on a rainy Sunday",
        "last summer", "two days ago", "on my birthday", "yesterday", "in October", "last month",
        "on Saturday", "at Christmas", "a week ago",
    ),
    "company": (
        "with my sister", "with two friends", "on my own", "with my family", "with my parents",
        "with the kids", "with a colleague", "with my girlfriend", "with my boyfriend",
    ),
    "opening": (
        "{setting}",
        "{setting}, and {+verdict}",
        "where do I start? {+verdict}",
        "let me say it at once: {+verdict}",
        "{+verdict}, and that is putting it mildly",
        "short version: {+verdict}",
        "I rarely write reviews, but {+verdict}",
        "{+expectation}",
        "{+hearsay}",
        "{+verdict}",
        "{this} {is} a {+noun}",
        "a {+adj} {kind}",
        "what a {+noun}",
    ),
    "title": ("The {title_adj} {title_noun}", "The {title_noun}", "{title_adj} {title_noun}"),
    "title_adj": (
        "Silent", "Last", "Hidden", "Crimson", "Broken", "Distant", "Glass", "Midnight", "Second",
        "Golden", "Winter", "Paper", "Burning", "Silver", "Northern", "Borrowed", "Secret",
    ),
    "title_noun": (
        "River", "Garden", "Letter", "Harbor", "Stranger", "Kingdom", "Road", "Island", "Mirror",
        "Summer", "Witness", "Tower", "Train", "Daughter", "Station", "Shadow", "Signal",
    ),
}  # fmt: skip

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
    """Yield short labelled reviews without end, both labels equally likely, the same for a seed.

    The label is what the reviewer thinks of the whole. Texts may recur.
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
    """Yield longer unlabelled reviews without end, the same for a seed, to pretrain on.

    None contains the whole text of a `pocket_reviews` example as a run of its sentences, so a
    model pretrained on them has not seen the task's texts.
    """
    taken = {review.text for split in SPLIT_SIZES for review in split_reviews(split)}
    longest = max(len(_sentences(text)) for text in taken)
    rng = random.Random(f"passages {seed}")
    while True:
        text = _passage(rng, rng.randrange(2))
        sentences = _sentences(text)
        runs = (
            " ".join(sentences[start : start + length])
            for start in range(len(sentences))
            for length in range(1, longest + 1)
        )
        sane = 2 <= len(sentences) <= 8 and not _DOUBLED.search(text)
        if sane and taken.isdisjoint(runs):
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
    """Return one to three sentences, of which one decides and the others agree or say nothing."""
    writer = _Writer(rng)
    before = rng.choice(["setting", "praise", "", ""])
    point = rng.choices(list(_POINTS), weights=list(_POINTS.values()))[0]
    after = rng.choice(["close", "remark", "", ""])
    rules = filter(None, (before, point, after))
    return " ".join(writer.sentence(rule, polarity) for rule in rules)


def _passage(rng: random.Random, polarity: int) -> str:
    """Return a review of several sentences that keeps to its side, save for what it concedes."""
    writer = _Writer(rng)
    body = ["praise", "praise", "praise", "remark", "remark", "plain", *_POINTS]
    middle = [rng.choice(body) for _ in range(rng.randrange(1, 7))]
    rules = ["opening", *middle, *(["close"] if rng.random() < 0.7 else [])]
    return " ".join(writer.sentence(rule, polarity) for rule in rules)


class _Writer:
    """Fills templates about one product, remembering what has been said."""

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
        """Return a text for a rule or list of words, told from a side."""

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
        shared = self.kind.words.get(name, ()) + RULES.get(name, ()) + RULES.get(family, ())
        polar = [POLAR[key][side] for key in (name, family) if key in POLAR]
        return sum(polar, shared)

    def _pick(self, options: Words) -> str:
        """Return one of the options, and while there are others not one used before."""
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
