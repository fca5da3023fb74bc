"""The metrics. To add one, write its functions and its `Metric`, and name it here."""

from tunewise.metrics.classification import ACCURACY, F1
from tunewise.metrics.likelihood import LOSS, PERPLEXITY
from tunewise.metrics.metric import Metric, Prediction, interval
from tunewise.metrics.overlap import BLEU, CHRF, ROUGE_1, ROUGE_2, ROUGE_L

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        ACCURACY,
        F1,
        LOSS,
        PERPLEXITY,
        CHRF,
        BLEU,
        ROUGE_1,
        ROUGE_2,
        ROUGE_L,
    )
}

__all__ = ["METRICS", "Metric", "Prediction", "interval"]
