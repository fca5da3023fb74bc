"""A report says what its study found, in words, tables and files that agree."""

import csv
import html
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tunewise.errors import ConfigError
from tunewise.reports.answer import answer, warnings
from tunewise.reports.markdown import markdown
from tunewise.reports.page import page
from tunewise.reports.report import write_report
from tunewise.reports.sections import pareto, sections
from tunewise.reports.tables import cells_csv, columns, pairs_csv
from tunewise.studies.compare import Comparison, compare

from .conftest import HOSTILE, StudyFolder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewise.studies.statistics.NUM_RESAMPLES", 50)


@pytest.fixture
def comparison(rich: Path) -> Comparison:
    return compare(rich)


@pytest.fixture
def text(comparison: Comparison) -> str:
    return page(comparison, sections(comparison))


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
    titles = [column.title for column in columns(comparison)]
    header = next(line for line in markdown(comparison).splitlines() if line.startswith("| cell"))
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
    assert HOSTILE not in markdown(comparison)


def test_every_figure_is_valid_json_that_ends_no_script(text: str) -> None:
    found = re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', text)
    names = {name for name, _ in found}
    assert {"quality_and_cost", "effect_1", "effect_2", "candidates", "curve_loss"} <= names
    assert {"bars_trainable", "bars_test_loss", "confusion_1"} <= names
    for _, content in found:
        assert "<" not in content
        assert json.loads(content)["plot"]["data"]


def test_the_answer_names_the_best_the_worse_and_the_recommended(comparison: Comparison) -> None:
    asked, came_out, use = answer(comparison)
    assert asked.startswith("6 set-ups were run with 2 seeds each on custom (12 test examples)")
    assert "the best of the same 2 candidates on validation data" in asked
    assert comparison.best is not None and comparison.recommended is not None
    assert comparison.best.name in came_out
    assert use.startswith(f"Use {comparison.recommended.name}")
    told = warnings(comparison)
    assert any("lies at the edge of what was tried" in line for line in told)
    assert any("broken, epochs=1: learning_rate=0.001: method.blocks" in line for line in told)
    assert any(line.startswith("Two seeds") for line in told)


def test_nothing_shown_is_said_in_words(study_folder: StudyFolder) -> None:
    folder = study_folder(vary={"method.alpha": [16, 16.001]}, seeds=2)
    _, came_out, use = answer(compare(folder))
    assert came_out.startswith("No difference is shown: alpha=16 has the best mean, accuracy ")
    assert use.startswith("Use alpha=16: of those not shown to be worse than the best")


def test_one_cell_is_compared_with_nothing(study_folder: StudyFolder) -> None:
    folder = study_folder()
    comparison = compare(folder)
    asked, came_out, use = answer(comparison)
    assert asked.startswith("One set-up was run with one seed")
    assert came_out.startswith("base has accuracy ")
    assert "(95 % interval " in came_out
    assert use == "Use base: there is nothing to compare it with."
    assert any(line.startswith("One seed") for line in warnings(comparison))
    assert "Which differ" not in page(comparison, sections(comparison))


def test_what_has_not_run_is_no_answer(study_folder: StudyFolder) -> None:
    folder = study_folder(vary={"method.blocks": ["last-9"]})
    comparison = compare(folder)
    assert answer(comparison)[1] == "Nothing has finished yet."
    assert "Nothing has finished yet." in page(comparison, sections(comparison))
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
    text = page(comparison, sections(comparison))
    assert "What each cell wrote" in text
    for row in comparison.rows:
        predicted = row.runs[0].predictions[0].predicted.strip("\n")
        assert html.escape(predicted) in text


def test_the_pareto_front_is_what_no_other_beats_in_both() -> None:
    costs, values = [1.0, 2.0, 2.0, 3.0, 4.0], [0.5, 0.4, 0.6, 0.6, 0.9]
    assert pareto(costs, values, higher_is_better=True) == [0, 2, 4]
    assert pareto(costs, values, higher_is_better=False) == [0, 1]


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
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        write_report(rich, mine)
    assert mine.read_text() == "mine"


def test_without_plotly_the_extra_is_named(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ConfigError, match=r"tunewise\[report\]"):
        write_report(rich)
