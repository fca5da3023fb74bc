"""Results of each label of a classification task, from the tables that its runs store."""

from collections import Counter
from dataclasses import dataclass
from statistics import fmean

from tunewise.studies.compare import CellResult


@dataclass(frozen=True)
class LabelResult:
    """The results of one cell on one label."""

    label: str
    scores: dict[str, float]
    """Precision, recall, F1 and support on the test split; the mean over seeds."""
    predicted_as: dict[str, int]
    """Number of times each label was predicted where this one was expected; the sum over seeds."""


def label_results(row: CellResult) -> list[LabelResult]:
    """Return the result of each label; none for a task without labels."""
    tables = [run.result.tables for run in row.runs if run.result.tables is not None]
    counts: Counter[tuple[str, str]] = Counter()
    for table in tables:
        labels_of_run = table.confusion.labels
        for expected, line in zip(labels_of_run, table.confusion.counts, strict=True):
            for predicted, count in zip(labels_of_run, line, strict=True):
                counts[expected, predicted] += count
    labels = list(dict.fromkeys(expected for expected, _ in counts))
    results = []
    for label in labels:
        scores = [
            table.per_class[label].model_dump() for table in tables if label in table.per_class
        ]
        means = {name: fmean(values[name] for values in scores) for name in scores[0]}
        predicted_as = {other: counts[label, other] for other in labels}
        results.append(LabelResult(label, means, predicted_as))
    return results
