"""Laws of what is computed from labels: scikit-learn says the same."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn

from tunewise.metrics import METRICS, Prediction
from tunewise.metrics.classification import confusion_matrix, per_class


def labels(*pairs: tuple[str, str]) -> list[Prediction]:
    return [Prediction(str(n), *pair, -1.0, 1) for n, pair in enumerate(pairs)]


FOUR = labels(("a", "a"), ("a", "b"), ("b", "b"), ("c", "b"))


@pytest.mark.parametrize("seed", range(20))
def test_values_are_those_of_scikit_learn(seed: int) -> None:
    chance = np.random.default_rng(seed)
    names = np.array(["ham", "spam", "ütf-8", "10", "9"])[: chance.integers(2, 6)]
    expected, predicted = chance.choice(names, size=(2, chance.integers(1, 40))).tolist()
    answers = labels(*zip(expected, predicted, strict=True))
    assert METRICS["accuracy"].compute(answers) == pytest.approx(
        sklearn.accuracy_score(expected, predicted)
    )
    assert METRICS["f1"].compute(answers) == pytest.approx(
        sklearn.f1_score(expected, predicted, average="macro", zero_division=0.0)
    )
    order = names.tolist()
    columns = sklearn.precision_recall_fscore_support(
        expected, predicted, labels=order, zero_division=0.0
    )
    table = [list(row.values()) for row in per_class(answers, order).values()]
    np.testing.assert_allclose(table, np.transpose(columns), rtol=1e-12)
    counts = sklearn.confusion_matrix(expected, predicted, labels=order)
    assert confusion_matrix(answers, order) == {"labels": order, "counts": counts.tolist()}


def test_the_table_of_labels_says_how_each_one_fares() -> None:
    table = per_class(FOUR)
    assert list(table) == ["a", "b", "c"]
    assert table["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert table["b"] == {"precision": pytest.approx(1 / 3), "recall": 1.0, "f1": 0.5, "support": 1}
    assert table["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_the_mean_f1_of_the_table_is_the_metric() -> None:
    shares = [row["f1"] for row in per_class(FOUR).values()]
    assert np.mean(shares) == pytest.approx(METRICS["f1"].compute(FOUR))


def test_the_confusion_matrix_has_a_row_per_expected_label() -> None:
    assert confusion_matrix(FOUR) == {
        "labels": ["a", "b", "c"],
        "counts": [[1, 1, 0], [0, 1, 0], [0, 1, 0]],
    }


def test_the_tables_keep_the_order_of_the_labels_and_lose_none() -> None:
    order = ["d", "c", "b"]
    assert list(per_class(FOUR, order)) == ["d", "c", "b", "a"]
    assert per_class(FOUR, order)["d"]["support"] == 0
    matrix = confusion_matrix(FOUR, order)
    assert matrix["labels"] == ["d", "c", "b", "a"]
    assert sum(sum(row) for row in matrix["counts"]) == len(FOUR)


def test_the_tables_are_plain_values_that_json_can_hold() -> None:
    for table in (per_class(FOUR), confusion_matrix(FOUR)):
        assert json.loads(json.dumps(table, allow_nan=False)) == table
