"""Laws of the review grammar and of the `pocket_reviews` task it generates."""

import re
from collections import Counter
from itertools import islice

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from tunewise.pocket.grammar import LABELS, SPLIT_SIZES, Review, passages, reviews, split_reviews
from tunewise.pocket.lexicon import ADJECTIVES, POLAR

SPLITS = {split: split_reviews(split) for split in SPLIT_SIZES}
TASK = [review for rows in SPLITS.values() for review in rows]
PASSAGES = list(islice(passages(seed=0), 1000))
TEXTS = [review.text for review in TASK] + PASSAGES

NEGATION = re.compile(r"\b(not|never|nothing|nobody|neither|nor|\w+n't)\b", re.IGNORECASE)


def test_the_same_seed_gives_the_same_texts() -> None:
    assert list(islice(reviews(3), 50)) == list(islice(reviews(3), 50))
    assert list(islice(passages(3), 50)) == list(islice(passages(3), 50))


def test_another_seed_gives_other_texts() -> None:
    assert list(islice(reviews(3), 50)) != list(islice(reviews(4), 50))
    assert list(islice(passages(3), 50)) != list(islice(passages(4), 50))


def test_each_split_has_its_size_and_as_many_reviews_of_either_label() -> None:
    for split, size in SPLIT_SIZES.items():
        counts = Counter(review.label for review in SPLITS[split])
        assert counts == dict.fromkeys(LABELS, size // 2), split


def test_no_text_occurs_twice_within_or_across_splits() -> None:
    assert len({review.text for review in TASK}) == sum(SPLIT_SIZES.values())


def test_changing_a_returned_split_does_not_change_the_task() -> None:
    split_reviews("test").append(Review("Oh.", "positive"))
    assert split_reviews("test") == SPLITS["test"]


def test_labels_of_the_stream_are_about_balanced() -> None:
    counts = Counter(review.label for review in islice(reviews(5), 2000))
    assert all(900 < counts[label] < 1100 for label in LABELS)


@pytest.mark.parametrize(
    "fault",
    [
        r"  |^ | $",
        r"[{}_*]",
        r"\b(\w+) \1\b",
        r"\b[Aa] (?:[aeioAEIO](?!ne\b|uro)|un(?!i[^n]))",
        r"\b[Aa]n (?:[^aeiouhAEIOU]|us|uni[qtv]|h(?!our|onest))",
        r"(?:^|[.!?] )[a-z]",
        r"[^.!?]$",
        r"[,;:.!?][,;:.!?]| [,;:.!?]",
    ],
)
def test_every_text_is_well_formed(fault: str) -> None:
    assert not [text for text in TEXTS if re.search(fault, text, re.MULTILINE)]


def test_every_review_is_short() -> None:
    assert all(3 <= len(review.text.split()) <= 45 for review in TASK)


def test_every_passage_has_two_to_eight_sentences() -> None:
    assert all(2 <= len(re.split(r"(?<=[.!?]) ", text)) <= 8 for text in PASSAGES)


def test_no_passage_contains_a_review_of_the_task() -> None:
    taken = {review.text for review in TASK}
    for passage in PASSAGES:
        sentences = re.split(r"(?<=[.!?]) ", passage)
        for start in range(len(sentences)):
            for stop in range(start + 1, len(sentences) + 1):
                assert " ".join(sentences[start:stop]) not in taken


def test_no_word_is_on_both_sides() -> None:
    pairs = [*ADJECTIVES.values(), *POLAR.values()]
    negative = {word for pair in pairs for word in pair[0] if "{score}" not in word}
    positive = {word for pair in pairs for word in pair[1]}
    assert not negative & positive


def test_negation_alone_does_not_tell_the_label() -> None:
    shares = {
        label: sum(bool(NEGATION.search(r.text)) for r in TASK if r.label == label)
        / sum(r.label == label for r in TASK)
        for label in LABELS
    }
    assert min(shares.values()) > 0.2
    assert abs(shares["negative"] - shares["positive"]) < 0.1


def test_counting_words_does_not_solve_the_task() -> None:
    words = CountVectorizer()
    train = words.fit_transform([review.text for review in SPLITS["train"]])
    model = LogisticRegression(C=0.3, max_iter=1000)
    model.fit(train, [review.label for review in SPLITS["train"]])
    test = words.transform([review.text for review in SPLITS["test"]])
    assert model.score(test, [review.label for review in SPLITS["test"]]) < 0.9
