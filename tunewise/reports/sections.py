"""The sections of a report's page, in the order of the page: what each shows, and its words."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tunewise.reports import words
from tunewise.reports.figure import Figure, finished_rows
from tunewise.reports.plots import (
    plot_axis_effects,
    plot_confusion_matrices,
    plot_costs,
    plot_quality_against_cost,
)
from tunewise.reports.tables import (
    Table,
    cells_table,
    examples_table,
    labels_table,
    pairs_table,
)
from tunewise.reports.training_plots import (
    plot_candidate_curves,
    plot_candidates,
    plot_learning_rate,
    plot_training_loss,
    plot_validation,
)
from tunewise.studies.compare import SIGNIFICANT, CellResult, Comparison, Pair
from tunewise.studies.trials import COMMAND_FILE
from tunewise.yaml import dump_yaml

MAX_EXAMPLES = 10
"""Most test examples that are shown with the predictions of each cell."""
MAX_OPEN_PAIRS = 15
"""Most pairs that are shown without a click."""


@dataclass(frozen=True)
class Folded:
    """A table or a text that a reader opens by a click on its summary."""

    summary: str
    content: Table | str


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, a note that explains it, and what it shows in this order."""

    heading: str
    note: str = ""
    figures: list[Figure] = field(default_factory=list)
    table: Table | None = None
    text: str = ""
    """A command, shown as it stands."""
    folded: list[Folded] = field(default_factory=list)

    @property
    def has_content(self) -> bool:
        """Whether there is anything below the heading and its note."""
        return bool(self.figures or self.table or self.text or self.folded)


def build_sections(comparison: Comparison) -> list[Section]:
    """Return the sections in the order of the page; those with nothing to show are left out.

    Raises:
        ConfigError: if there is something to plot, and Plotly is not installed.
    """
    of_finished_runs = (
        _quality_and_cost,
        _effects,
        _pairs,
        _candidates,
        _curves,
        _costs,
        _confusion,
        _examples,
    )
    any_finished = bool(finished_rows(comparison))
    sections = [
        _cells(comparison),
        *(section(comparison) for section in of_finished_runs if any_finished),
        _repetition(comparison),
    ]
    return [section for section in sections if section.has_content]


def _cells(comparison: Comparison) -> Section:
    study = comparison.study
    over = "seeds" if study.seeds > 1 else "test examples"
    note = f"Test {comparison.metric.name} and other metrics with 95 % intervals over {over}."
    if study.source:
        note += f" Published values: {study.source}."
    return Section("Test results of each cell", note, table=cells_table(comparison))


def _quality_and_cost(comparison: Comparison) -> Section:
    return Section(
        "Quality against cost",
        "Bars are 95 % intervals. The dotted line joins the cells that no other beats in both "
        "quality and cost (the Pareto front).",
        figures=[plot_quality_against_cost(comparison)],
    )


def _effects(comparison: Comparison) -> Section:
    return Section(
        "Effect of each axis",
        f"Mean {comparison.metric.name} over all cells at each value, with its 95 % interval.",
        figures=plot_axis_effects(comparison),
    )


def _pairs(comparison: Comparison) -> Section:
    """Return the table of all pairs, those with the best cell first: the answer rests on them."""
    heading = "Differences between cells"
    if not comparison.pairs:
        return Section(heading)
    tests = words.join_names(sorted({pair.test for pair in comparison.pairs}))
    count = len(comparison.pairs)
    pairs = "one pair" if count == 1 else f"{count} pairs"
    note = (
        f"First minus second, on the same test examples, by {tests}; p-values are corrected by "
        f"Holm's method over {pairs}. A difference is significant if its corrected p is "
        f"below {SIGNIFICANT}."
    )
    table = pairs_table(comparison, _best_first(comparison))
    if count > MAX_OPEN_PAIRS:
        return Section(heading, note, folded=[Folded("All pairs", table)])
    return Section(heading, note, table=table)


def _best_first(comparison: Comparison) -> list[Pair]:
    """Return all pairs: first those of the best cell, which stands first in each of them."""
    if comparison.best is None:
        return comparison.pairs
    best = comparison.best.name
    with_best = [pair for pair in comparison.pairs if best in (pair.first, pair.second)]
    others = [pair for pair in comparison.pairs if best not in (pair.first, pair.second)]
    turned = [
        comparison.pair(best, pair.second if pair.first == best else pair.first) or pair
        for pair in with_best
    ]
    return turned + others


def _candidates(comparison: Comparison) -> Section:
    return Section(
        "Validation results of the candidates",
        "Every candidate, measured on validation data with one seed; a star marks the chosen one.",
        figures=[*plot_candidates(comparison), *plot_candidate_curves(comparison)],
    )


def _curves(comparison: Comparison) -> Section:
    return Section(
        "Training curves",
        "A thin line per seed. A click on a name hides a cell; a double click shows it alone.",
        figures=[
            plot_training_loss(comparison),
            plot_validation(comparison),
            plot_learning_rate(comparison),
        ],
    )


def _costs(comparison: Comparison) -> Section:
    return Section("Costs and test loss", "Means over seeds.", figures=plot_costs(comparison))


def _confusion(comparison: Comparison) -> Section:
    labels = labels_table(comparison)
    return Section(
        "Confusion matrices",
        "Rows are the expected labels, columns the predicted ones; test examples of all seeds.",
        figures=plot_confusion_matrices(comparison),
        folded=[Folded("Precision, recall and F1 of each label", labels)] if labels.rows else [],
    )


def _examples(comparison: Comparison) -> Section:
    """Return some test examples with the prediction of each cell's first seed."""
    rows = finished_rows(comparison)
    predictions = [prediction for row in rows for prediction in row.runs[0].predictions]
    numbers: Sequence[int]
    if any(prediction.prompt for prediction in rows[0].runs[0].predictions):
        heading = "Texts written by each cell"
        note = "The first test examples, answered by the first seed of each cell."
        numbers = range(len(rows[0].runs[0].predictions))[:MAX_EXAMPLES]
    else:
        heading = "Examples on which cells differ most"
        note = "Test examples on which the first seeds of the cells disagree most."
        numbers = _most_disputed(rows)
    if not numbers or not any(prediction.predicted for prediction in predictions):
        return Section(heading)
    return Section(heading, note, table=examples_table(rows, numbers))


def _most_disputed(rows: Sequence[CellResult]) -> list[int]:
    """Return the places of the examples with different answers, the most disputed first."""

    def share_of_majority(number: int) -> float:
        answers = [row.runs[0].predictions[number].predicted for row in rows]
        return max(answers.count(answer) for answer in answers) / len(answers)

    shares = [(share_of_majority(n), n) for n in range(len(rows[0].runs[0].predictions))]
    return [number for share, number in sorted(shares) if share < 1][:MAX_EXAMPLES]


def _repetition(comparison: Comparison) -> Section:
    """Return the command, the study file and the settings of each cell, to repeat the study."""
    path = comparison.folder / COMMAND_FILE
    command = path.read_text("utf-8") if path.is_file() else ""
    study = comparison.study.model_dump(mode="json", exclude_defaults=True)
    folded = [Folded("Study file", dump_yaml(study))]
    for row in finished_rows(comparison):
        result = row.runs[0].result
        settings = {
            "overrides": row.cell.overrides,
            "chosen": {} if row.winner is None else row.winner.overrides,
            "config": result.config.model_dump(mode="json"),
            "environment": result.environment.model_dump(),
            "device": result.memory.device,
            "data": {name: size.model_dump() for name, size in result.data.items()},
        }
        folded.append(Folded(row.name, dump_yaml(settings)))
    heading = "How to repeat the study" if command else "Settings"
    return Section(heading, text=command, folded=folded)
