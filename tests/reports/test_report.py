"""A report says what its study found, in words, tables and files that agree."""

import csv
import html
import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tunewise.errors import ConfigError
from tunewise.reports.columns import build_columns
from tunewise.reports.csv_files import cells_csv, pairs_csv
from tunewise.reports.markdown import render_markdown
from tunewise.reports.page import render_page
from tunewise.reports.plots import pareto_front
from tunewise.reports.report import build_study_page, write_report
from tunewise.reports.sections import build_sections
from tunewise.reports.summary import find_warnings, summarize
from tunewise.reports.words import format_interval, format_value
from tunewise.settings import validate
from tunewise.studies.compare import CellResult, Comparison, compare
from tunewise.studies.study import Study
from tunewise.yaml import load_yaml

from .conftest import HOSTILE, StudyFolder

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewise.studies.statistics.NUM_RESAMPLES", 50)


@pytest.fixture
def comparison(rich: Path) -> Comparison:
    return compare(rich)


@pytest.fixture
def text(comparison: Comparison) -> str:
    return render_page(build_study_page(comparison))


class Cells(HTMLParser):
    """The table of cells: what each cell shows, and the number behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.columns: list[str] = []
        self.rows: list[list[tuple[str, str]]] = []
        self._inside = False
        self._value: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self._inside = given.get("id") == "cells"
        if not self._inside:
            return
        if tag == "th":
            self.columns.append(given["data-column"] or "")
        if tag == "tr" and self.columns:
            self.rows.append([])
        if tag == "td":
            self._value = given["data-value"] or ""

    def handle_data(self, data: str) -> None:
        if self._value is not None:
            self.rows[-1].append((data, self._value))
            self._value = None


def table_of(text: str) -> Cells:
    parser = Cells()
    parser.feed(text)
    return parser


def test_every_number_of_the_page_s_table_is_in_cells_csv(
    comparison: Comparison, text: str
) -> None:
    lines = list(csv.DictReader(io.StringIO(cells_csv(comparison))))
    table = table_of(text)
    assert len(table.rows) == len(lines) == 6
    for row, line in zip(table.rows, lines, strict=True):
        assert len(row) == len(table.columns)
        for column, (shown, value) in zip(table.columns, row, strict=True):
            assert line[column] == value
            numbers = [float(n.replace(",", "")) for n in re.findall(r"-?[\d,]*\.?\d+", shown)]
            if column in ("cell", "verdict", "chosen") or not numbers:
                continue
            # The number shown is that of the file, in some unit and rounded.
            units = (1, 100, 1 / 2**20, 1 / 2**30, 1 / 60, 1 / 3600)
            nearest = min(abs(float(value) * unit - numbers[0]) for unit in units)
            assert nearest <= max(0.051, 0.005 * abs(numbers[0])), (column, shown, value)


def test_the_tables_columns_are_those_of_markdown(comparison: Comparison) -> None:
    titles = [column.title for column in build_columns(comparison)]
    header = next(
        line for line in render_markdown(comparison).splitlines() if line.startswith("| cell")
    )
    shown = [part.strip().replace("\\", "") for part in header.strip("|").split("|")]
    assert shown == ["cell", *titles]


def test_the_same_runs_give_the_same_files(rich: Path) -> None:
    first, second = compare(rich), compare(rich)
    assert cells_csv(first) == cells_csv(second)
    assert pairs_csv(first) == pairs_csv(second)
    header = cells_csv(first).splitlines()[0].split(",")
    clocks = ["peak_bytes", "epoch_seconds", "slowest_epoch_seconds", "tokens_per_second"]
    assert header[-4:] == clocks


def test_no_text_of_a_study_or_its_rows_is_read_as_html(comparison: Comparison, text: str) -> None:
    assert HOSTILE not in text
    assert html.escape(HOSTILE) in text
    assert HOSTILE not in render_markdown(comparison)


def test_every_figure_is_valid_json_that_ends_no_script(text: str) -> None:
    found = re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', text)
    names = {name for name, _ in found}
    assert {"quality_and_cost", "effect_1", "effect_2", "candidates", "curve_loss"} <= names
    assert {"bars_trainable", "bars_test_loss", "confusion_1"} <= names
    for _, content in found:
        assert "<" not in content
        assert json.loads(content)["plot"]["data"]


def named(text: str, comparison: Comparison) -> set[str]:
    """Return the cells that a text names."""
    return {row.name for row in comparison.rows if re.search(rf"{re.escape(row.name)}\b", text)}


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\b\d+\b", text)]


def measured(comparison: Comparison, row: CellResult) -> str:
    """Return a cell's value and interval as the answer writes them."""
    name = comparison.metric.name
    interval = format_interval(name, row.metrics[name])
    return f"{name} {format_value(name, row.metrics[name].mean)} (95 % interval {interval})"


def test_the_answer_names_the_best_and_the_recommended_with_their_numbers(
    comparison: Comparison,
) -> None:
    setup, finding, recommendation = summarize(comparison)
    assert numbers(setup) == [6, 12, 2, 2]  # cells, test examples, seeds, candidates
    best, recommended = comparison.best, comparison.recommended
    assert best is not None and recommended is not None and recommended is not best
    assert named(finding, comparison) == {best.name}
    assert measured(comparison, best) in finding
    assert recommended.name in recommendation
    assert measured(comparison, recommended) in recommendation
    costliest = max(comparison.not_worse, key=lambda row: row.cost("trainable"))
    assert costliest.name in recommendation
    for row in (recommended, costliest):
        assert f"{row.cost('trainable'):,.0f}" in recommendation


def test_the_warnings_name_the_cells_and_what_limits_them(comparison: Comparison) -> None:
    warnings = find_warnings(comparison)
    at_edge = {row.name for row in comparison.rows if row.edges}
    failed = {row.name for row in comparison.rows if row.failures}
    assert at_edge and failed
    assert any("learning_rate" in w and named(w, comparison) == at_edge for w in warnings)
    assert any("seeds" in w and named(w, comparison) == failed for w in warnings)
    for row in comparison.rows:
        for failure in row.failures:
            assert f"{row.name}: {failure}" in warnings
    assert any("two seeds" in warning.lower() for warning in warnings)


def test_cells_that_are_worse_and_cells_that_are_not_are_told_apart(
    study_folder: StudyFolder,
) -> None:
    comparison = compare(study_folder(vary={"method.rank": [1, 2, 3, 4]}))
    best, similar, *worse = comparison.rows
    comparison = replace(
        comparison, best=best, not_worse=[best, similar], recommended=best, pairs=[]
    )
    first, *clauses = summarize(comparison)[1].split("; ")
    assert named(first, comparison) == {best.name}
    assert measured(comparison, best) in first
    said = {
        verdict: named(clause, comparison)
        for clause in clauses
        for verdict in ("significantly worse", "no significant difference")
        if verdict in clause
    }
    assert said == {
        "significantly worse": {row.name for row in worse},
        "no significant difference": {similar.name},
    }
    verdicts = [build_columns(comparison)[0].text(row) for row in comparison.rows]
    assert verdicts == [
        *("recommended, best", "not significantly worse"),
        *["significantly worse"] * len(worse),
    ]
    alone = replace(comparison, not_worse=[best])
    assert named(summarize(alone)[2], alone) == {best.name}


def test_no_significant_difference_is_said_in_words(study_folder: StudyFolder) -> None:
    comparison = compare(study_folder(vary={"method.alpha": [16, 16.001]}, seeds=2))
    _, finding, recommendation = summarize(comparison)
    assert "no significant difference" in finding.lower()
    assert comparison.best is comparison.rows[0]
    assert named(finding, comparison) == {"alpha=16"}
    assert measured(comparison, comparison.rows[0]) in finding
    assert named(recommendation, comparison) == {"alpha=16"}
    assert "no significant difference" in render_markdown(comparison)


def test_one_cell_is_compared_with_nothing(study_folder: StudyFolder) -> None:
    comparison = compare(study_folder())
    (cell,) = comparison.rows
    setup, finding, recommendation = summarize(comparison)
    assert numbers(setup) == [12]
    for sentence in (finding, recommendation):
        assert named(sentence, comparison) == {"base"}
        assert "significant" not in sentence
    assert measured(comparison, cell) in finding
    assert any("one seed" in warning.lower() for warning in find_warnings(comparison))
    assert not re.search('id="pairs"', render_page(build_study_page(comparison)))


def test_the_page_has_its_sections_in_their_order(comparison: Comparison, text: str) -> None:
    headings = [html.escape(section.heading) for section in build_sections(comparison)]
    assert re.findall("<h2>(.*?)</h2>", text) == headings
    assert len(headings) == 10


def test_the_study_shown_is_read_back_as_the_study(comparison: Comparison) -> None:
    # Other writers of YAML leave out the quotes, and a number is read back.
    study = comparison.study.model_copy(update={"description": "1e-3"})
    *_, last = build_sections(replace(comparison, study=study))
    shown = last.folded[0].content
    assert isinstance(shown, str)
    assert validate(Study, load_yaml(shown), "shown") == study


def test_what_makes_an_answer_less_sure_is_a_warning(comparison: Comparison) -> None:
    first, second, *others = comparison.rows
    alike = replace(comparison, rows=[first, replace(second, runs=first.runs), *others])
    names = f"{first.name} and {second.name}"
    assert any(w.startswith(f"{names} gave the same answer") for w in find_warnings(alike))
    tables = first.runs[0].result.tables
    assert tables is not None
    (few,) = (w for w in find_warnings(comparison) if "fewer than 10 test rows" in w)
    for label, scores in tables.per_class.items():
        assert f"{label} ({scores.support:.0f})" in few
    unfinished = replace(
        comparison, rows=[replace(first, num_open=1), second, *others], recommended=None
    )
    assert summarize(unfinished)[2] == (
        f"Nothing can be recommended yet: {first.name} still to be run."
    )


def test_what_has_not_run_is_no_answer(study_folder: StudyFolder) -> None:
    folder = study_folder(vary={"method.blocks": ["last-9"]})
    comparison = compare(folder)
    answer = summarize(comparison)
    assert not any(named(sentence, comparison) for sentence in answer)
    page = render_page(build_study_page(comparison))
    assert all(html.escape(sentence) in page for sentence in answer)
    assert 'id="quality_and_cost"' not in page
    assert "failed" in cells_csv(comparison)


def test_texts_are_shown_side_by_side_with_their_reference(
    study_folder: StudyFolder, rows: Path, model_folder: Path
) -> None:
    base = {
        "model": str(model_folder),
        "task": {
            "kind": "generation",
            "path": str(rows),
            "template": "{instruction}: ",
            "completion": "{output}",
            "decoding": {"max_new_tokens": 4},
        },
        "train": {"epochs": 1, "batch_size": 5, "precision": "fp32"},
    }
    folder = study_folder(base=base, runs=[{"name": "a"}, {"name": "b", "method": "full"}])
    comparison = compare(folder)
    assert not comparison.metric.higher_is_better  # a loss chooses here
    best = min(comparison.rows, key=lambda row: row.metrics["loss"].mean)
    assert comparison.best is best
    text = render_page(build_study_page(comparison))
    for row in comparison.rows:
        predicted = row.runs[0].predictions[0].predicted.strip("\n")
        assert html.escape(predicted) in text


def test_the_pareto_front_is_what_no_other_beats_in_both() -> None:
    costs, values = [1.0, 2.0, 2.0, 3.0, 4.0], [0.5, 0.4, 0.6, 0.6, 0.9]
    assert pareto_front(costs, values, higher_is_better=True) == [0, 2, 4]
    assert pareto_front(costs, values, higher_is_better=False) == [0, 1]


def test_a_report_is_written_beside_its_study_and_nothing_else_is_replaced(
    rich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewise.reports.report._write_pictures", lambda *_: None)
    assert write_report(rich) == rich / "report.html"
    for name in ("report.html", "report.md", "cells.csv", "pairs.csv", "effects.csv"):
        assert (rich / name).stat().st_size > 0
    assert write_report(rich, tmp_path / "new" / "page.html").is_file()
    write_report(rich, tmp_path / "new" / "page.html")  # its own may be replaced
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    with pytest.raises(ConfigError, match=r"mine\.html: .*not overwritten"):
        write_report(rich, mine)
    assert mine.read_text() == "mine"


def test_without_plotly_the_extra_is_named(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ConfigError, match=r"tunewise\[report\]"):
        write_report(rich)
