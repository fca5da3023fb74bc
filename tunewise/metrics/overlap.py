"""chrF, BLEU (sacrebleu) and ROUGE (rouge-score): the overlap of written and expected texts.

Both libraries come with `pip install 'tunewise[text]'`. The scales are theirs, and those of
papers: chrF and BLEU 0 to 100, ROUGE 0 to 1.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from tunewise.errors import ConfigError
from tunewise.metrics.metric import Metric, Prediction, Statistics, mean, with_count

NUM_KEPT = 10_000
"""Pairs of texts whose counts are kept, since a value and its interval use the same."""


def _chrf_counts(predictions: Sequence[Prediction]) -> Statistics:
    """Return how many character n-grams, n = 1 to 6, are written, expected and shared, (E, 18)."""
    return np.array([_sacrebleu_counts("chrf", p.expected, p.predicted) for p in predictions])


def _chrf(totals: Statistics) -> float:
    """Return chrF of the corpus, 0 to 100. Popović, https://aclanthology.org/W15-3049.

    sacrebleu's defaults, which is chrF2: characters without spaces, n up to 6, no word n-grams,
    recall weighs twice precision (beta = 2), case matters. Counts are summed over examples first.
    Signature: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no.
    """
    return float(_sacrebleu("chrf")._compute_score_from_stats(totals).score)


def _bleu_counts(predictions: Sequence[Prediction]) -> Statistics:
    """Return both lengths, and how many 1- to 4-grams are shared and are written, (E, 10)."""
    return np.array([_sacrebleu_counts("bleu", p.expected, p.predicted) for p in predictions])


def _bleu(totals: Statistics) -> float:
    """Return BLEU of the corpus, 0 to 100. Papineni et al., https://aclanthology.org/P02-1040.

    sacrebleu's defaults (Post, https://aclanthology.org/W18-6319): tokens by `13a`, up to 4-grams,
    exponential smoothing, case matters. It is 0 where no answer has four tokens.
    Signature: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp.
    """
    return float(_sacrebleu("bleu")._compute_score_from_stats(totals).score)


def _rouge(index: int) -> Callable[[Sequence[Prediction]], Statistics]:
    """Return a function for one of `_rouge_scores`, with 1 beside it, (E, 2)."""
    return lambda predictions: with_count(
        [_rouge_scores(p.expected, p.predicted)[index] for p in predictions]
    )


@lru_cache(NUM_KEPT)
def _rouge_scores(expected: str, predicted: str) -> tuple[float, float, float]:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L (F-measures) of one answer, 0 to 1.

    Lin, https://aclanthology.org/W04-1013. Words are lower-cased and stemmed (Porter). Only runs of
    the letters a to z and digits are words to rouge-score: a text in another script scores 0.
    ROUGE-L takes a text as one sequence, whatever its lines.
    """
    scores = _rouge_scorer().score(expected, predicted)
    return scores["rouge1"].fmeasure, scores["rouge2"].fmeasure, scores["rougeL"].fmeasure


@lru_cache(NUM_KEPT)
def _sacrebleu_counts(name: Literal["chrf", "bleu"], expected: str, predicted: str) -> list[int]:
    # What sacrebleu's own significance tests resample; a test compares the sums to corpus_score.
    counts: list[int] = _sacrebleu(name)._extract_corpus_statistics([predicted], [[expected]])[0]
    return counts


@lru_cache
def _sacrebleu(name: Literal["chrf", "bleu"]) -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise ConfigError(_missing(name)) from error
    return {"chrf": CHRF, "bleu": BLEU}[name]()


@lru_cache
def _rouge_scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer  # a second to import
    except ImportError as error:
        raise ConfigError(_missing("rouge")) from error
    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def _missing(name: str) -> str:
    return f"the metric {name} needs an extra: pip install 'tunewise[text]'"


def _text_metric(
    name: str,
    statistics: Callable[[Sequence[Prediction]], Statistics],
    value: Callable[[Statistics], float],
    description: str,
    unit: Literal["fraction", "hundred"],
) -> Metric:
    """Return a metric of written texts, of which higher values are better."""
    bounds = (0, 1) if unit == "fraction" else (0, 100)
    return Metric(name, True, "text", unit, statistics, value, description, bounds)


CHRF = _text_metric("chrf", _chrf_counts, _chrf, "chrF2 of the corpus, 0 to 100", "hundred")
BLEU = _text_metric("bleu", _bleu_counts, _bleu, "BLEU of the corpus, 0 to 100", "hundred")
ROUGE_1 = _text_metric("rouge1", _rouge(0), mean, "mean ROUGE-1 F-measure, 0 to 1", "fraction")
ROUGE_2 = _text_metric("rouge2", _rouge(1), mean, "mean ROUGE-2 F-measure, 0 to 1", "fraction")
ROUGE_L = _text_metric("rougeL", _rouge(2), mean, "mean ROUGE-L F-measure, 0 to 1", "fraction")
