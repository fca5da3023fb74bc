"""Accuracy, F1, the scores of each label, and the confusion matrix."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunewise.metrics.metric import Metric, Prediction, Statistics, mean, with_count


def _is_right(prediction: Prediction) -> bool:
    return prediction.expected == prediction.predicted


def _right(predictions: Sequence[Prediction]) -> Statistics:
    """Return whether each label is right, and 1, (E, 2)."""
    return with_count([float(_is_right(prediction)) for prediction in predictions])


def _label_counts(predictions: Sequence[Prediction]) -> Statistics:
    """Return, for K labels, whether each example hits, expects or predicts it: 0 or 1, (E, 3K)."""
    expected, predicted = _labels(predictions)
    labels, codes = np.unique(expected + predicted, return_inverse=True)  # (K,), (2E,)
    shape = (2, len(predictions), len(labels))
    is_expected, is_predicted = np.eye(len(labels))[codes].reshape(shape)  # (E, K) each
    return np.hstack([is_expected * is_predicted, is_expected, is_predicted])


def _macro_f1(totals: Statistics) -> float:
    """Return the mean over labels of F1 = 2 · precision · recall / (precision + recall), 0 to 1.

    That is 2 · hits / (expected + predicted). A label counts if it is expected or predicted
    anywhere; one never hit has an F1 of 0.
    """
    hits, expected, predicted = totals.reshape(3, -1)  # (K,) each
    occurs = expected + predicted > 0
    return float(np.mean(2 * hits[occurs] / (expected + predicted)[occurs]))


ACCURACY = Metric(
    name="accuracy",
    higher_is_better=True,
    of="label",
    unit="share",
    statistics=_right,
    value=mean,
    description="share of right labels",
    bounds=(0, 1),
    is_right=_is_right,
)
F1 = Metric(
    name="f1",
    higher_is_better=True,
    of="label",
    unit="share",
    statistics=_label_counts,
    value=_macro_f1,
    description="F1 averaged over labels (macro)",
    bounds=(0, 1),
)


def per_class(
    predictions: Sequence[Prediction], labels: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and support of each label; 0 instead of a division by 0.

    Args:
        labels: the order to show them in; others that occur follow, by alphabet.
    """
    order = _in_order(predictions, labels)
    counts = _confusion(predictions, order)
    hits, expected, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)  # (K,) each
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(expected, 1)
    f1 = 2 * hits / np.maximum(expected + predicted, 1)
    columns = (column.tolist() for column in (precision, recall, f1, expected))
    return {
        label: {"precision": p, "recall": r, "f1": f, "support": n}
        for label, p, r, f, n in zip(order, *columns, strict=True)
    }


def confusion_matrix(
    predictions: Sequence[Prediction], labels: Sequence[str] = ()
) -> dict[str, list[str] | list[list[int]]]:
    """Return the `labels`, and the `counts`: a row per expected label, a column per predicted one.

    Args:
        labels: the order to show them in; others that occur follow, by alphabet.
    """
    order = _in_order(predictions, labels)
    return {"labels": order, "counts": _confusion(predictions, order).tolist()}


def _confusion(predictions: Sequence[Prediction], order: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return how often each label (column) was predicted where each (row) was expected, (K, K).

    scikit-learn has these metrics too, but its import takes a second and 97 MiB in every run.
    """
    place = {label: index for index, label in enumerate(order)}
    counts = np.zeros((len(order), len(order)), dtype=np.int64)
    for prediction in predictions:
        counts[place[prediction.expected], place[prediction.predicted]] += 1
    return counts


def _labels(predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    return [p.expected for p in predictions], [p.predicted for p in predictions]


def _in_order(predictions: Sequence[Prediction], labels: Sequence[str]) -> list[str]:
    expected, predicted = _labels(predictions)
    return [*labels, *sorted({*expected, *predicted} - {*labels})]
