"""Laws of what is computed from texts: the libraries say the same, at once."""

import random
import sys
import time

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from tunewise.errors import TunewiseError
from tunewise.metrics import METRICS, Prediction, interval, overlap

TEXTS = {name: metric for name, metric in METRICS.items() if metric.of == "text"}
BEST = {"chrf": 100.0, "bleu": 100.0, "rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}
WORDS = ["the", "sea", ",", "Dreams!", "running", "faster", "façade", "3.5", "it's", "(so)", "\n"]
every_one = pytest.mark.parametrize("name", TEXTS)


def texts(expected: list[str], predicted: list[str]) -> list[Prediction]:
    pairs = zip(expected, predicted, strict=True)
    return [Prediction(str(n), *pair, -1.0, 1) for n, pair in enumerate(pairs)]


def made_up(seed: int, number: int, length: int) -> tuple[list[str], list[str]]:
    """Return texts, and as many of which about half the words are others."""
    chance = random.Random(seed)
    expected = [chance.choices(WORDS, k=chance.randint(1, length)) for _ in range(number)]
    predicted = [[chance.choice([w, chance.choice(WORDS)]) for w in ws] for ws in expected]
    return [" ".join(ws) for ws in expected], [" ".join(ws) for ws in predicted]


def by_the_libraries(expected: list[str], predicted: list[str]) -> dict[str, float]:
    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds, use_stemmer=True)
    scores = [scorer.score(e, p) for e, p in zip(expected, predicted, strict=True)]
    return {
        "chrf": CHRF().corpus_score(predicted, [expected]).score,
        "bleu": BLEU().corpus_score(predicted, [expected]).score,
    } | {kind: float(np.mean([score[kind].fmeasure for score in scores])) for kind in kinds}


@pytest.mark.parametrize("length", [1, 5, 60])
@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_the_libraries(seed: int, length: int) -> None:
    expected, predicted = made_up(seed, number=15, length=length)
    predicted[0] = ""
    answers = texts(expected, predicted)
    found = {name: metric.compute(answers) for name, metric in TEXTS.items()}
    assert found == pytest.approx(by_the_libraries(expected, predicted), rel=1e-12)


def test_bleu_and_chrf_are_of_the_corpus_and_not_means_over_examples() -> None:
    answers = texts(*made_up(0, number=10, length=40))
    for name in ("bleu", "chrf"):
        alone = [METRICS[name].compute([answer]) for answer in answers]
        assert METRICS[name].compute(answers) != pytest.approx(np.mean(alone), rel=1e-3)


@every_one
def test_a_repeated_text_is_perfect(name: str) -> None:
    lines = ["Shall I compare thee to a summer's day?", "Thou art more lovely and more temperate."]
    answers = texts(lines, lines)
    assert METRICS[name].compute(answers) == pytest.approx(BEST[name])
    assert interval(METRICS[name], answers, seed=0) == pytest.approx((BEST[name], BEST[name]))


@every_one
def test_no_text_at_all_is_worth_nothing(name: str) -> None:
    answers = texts(["Shall I compare thee to a summer's day?"] * 3, [""] * 3)
    assert METRICS[name].compute(answers) == 0.0
    assert interval(METRICS[name], answers, seed=0) == (0.0, 0.0)


@every_one
def test_an_empty_text_among_others_pulls_the_value_down(name: str) -> None:
    expected, predicted = made_up(1, number=10, length=40)
    less = [*predicted[:-1], ""]
    assert METRICS[name].compute(texts(expected, less)) < METRICS[name].compute(
        texts(expected, predicted)
    )


def test_intervals_of_300_long_texts_take_no_longer_than_a_few_values() -> None:
    answers = texts(*made_up(2, number=300, length=150))
    started = time.process_time()
    for metric in TEXTS.values():
        metric.compute(answers)
    once = time.process_time() - started
    started = time.process_time()
    for metric in TEXTS.values():
        interval(metric, answers, seed=0)
    assert time.process_time() - started < max(once, 1.0)


@every_one
def test_a_missing_library_is_one_line_that_says_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sacrebleu.metrics.bleu", "rouge_score.rouge_scorer"):
        monkeypatch.setitem(sys.modules, module, None)
    for kept in (overlap._sacrebleu, overlap._rouge_scorer):
        kept.cache_clear()
    for kept in (overlap._sacrebleu_counts, overlap._rouge_scores):
        kept.cache_clear()
    with pytest.raises(TunewiseError, match=r"pip install 'tunewise\[text\]'") as caught:
        METRICS[name].check()
    assert "\n" not in str(caught.value)
