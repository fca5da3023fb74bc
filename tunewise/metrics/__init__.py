"""The metrics. To add one, write its function and its `Metric`, and name it here."""

from tunewise.metrics.classification import ACCURACY, F1
from tunewise.metrics.likelihood import LOSS, PERPLEXITY
from tunewise.metrics.metric import Metric, Prediction, interval

METRICS: dict[str, Metric] = {m.name: m for m in (ACCURACY, F1, LOSS, PERPLEXITY)}

__all__ = ["METRICS", "Metric", "Prediction", "interval"]
