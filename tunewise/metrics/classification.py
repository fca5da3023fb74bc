"""How many labels are right, by scikit-learn."""

from collections.abc import Sequence

from tunewise.metrics.metric import Metric, Prediction


def _labels(predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    return [p.expected for p in predictions], [p.predicted for p in predictions]


def accuracy(predictions: Sequence[Prediction]) -> float:
    """Return the share of right labels, 0 to 1."""
    from sklearn.metrics import accuracy_score  # a second to import

    return float(accuracy_score(*_labels(predictions)))


def macro_f1(predictions: Sequence[Prediction]) -> float:
    """Return the mean over labels of F1 = 2 · precision · recall / (precision + recall), 0 to 1.

    A label counts if it is expected or predicted anywhere; one never hit has an F1 of 0.
    """
    from sklearn.metrics import f1_score

    expected, predicted = _labels(predictions)
    return float(f1_score(expected, predicted, average="macro", zero_division=0.0))


ACCURACY = Metric("accuracy", True, accuracy, "share of right labels")
F1 = Metric("f1", True, macro_f1, "F1 averaged over labels (macro)")
