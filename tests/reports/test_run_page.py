"""The page of one run holds what its folder holds, and the rows that were answered wrongly."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tunewise.config import make_config
from tunewise.errors import ConfigError
from tunewise.reports.page import render_page
from tunewise.reports.report import write_report
from tunewise.reports.run_page import FinishedRun, build_run_page, read_run
from tunewise.run import run
from tunewise.runs.folder import RESULT_FILE

from .conftest import HOSTILE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rows: Path, model_folder: Path) -> Path:
    """The folder of a run that answers some test rows wrongly."""
    data = tmp_path_factory.mktemp("data")
    for path in rows.iterdir():
        (data / path.name).write_text(path.read_text().replace('"good"', f'"{HOSTILE}"'))
    fields = {
        "model": str(model_folder),
        "task": {"kind": "classification", "path": str(data)},
        "train": {"epochs": 1, "batch_size": 5, "learning_rate": 1e-6, "precision": "fp32"},
    }
    out = tmp_path_factory.mktemp("run") / "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 20)
        return run(make_config(fields=fields), out=out).folder


@pytest.fixture
def finished(folder: Path) -> FinishedRun:
    return read_run(folder)


def table(page: str, name: str) -> list[list[str]]:
    """Return the cells of a table of the page, row by row."""
    found = re.search(f'<table id="{name}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    assert found is not None
    lines = re.findall("<tr.*?>(.*?)</tr>", found[1], re.DOTALL)
    return [
        [html.unescape(cell) for cell in re.findall("<td.*?>(.*?)</td>", line, re.DOTALL)]
        for line in lines
    ]


def test_every_wrong_answer_is_shown_with_its_text_the_surest_first(finished: FinishedRun) -> None:
    wrong = {p.id: p for p in finished.predictions if p.predicted != p.expected}
    assert 0 < len(wrong) < len(finished.predictions)
    page = render_page(build_run_page(finished))
    assert HOSTILE not in page
    shown = table(page, "wrong")
    assert {line[0] for line in shown} == set(wrong)
    sureness = [float(line[4].removesuffix(" %")) for line in shown]
    assert sureness == sorted(sureness, reverse=True)
    for place, text, expected, predicted, sure in shown:
        prediction = wrong[place]
        assert text == finished.texts[place] != ""
        assert (expected, predicted) == (prediction.expected, prediction.predicted)
        assert sure == f"{100 * prediction.probabilities[predicted]:.1f} %"


def test_the_answer_names_the_accuracy_of_the_commonest_label(finished: FinishedRun) -> None:
    expected = [p.expected for p in finished.predictions]
    highest = max(map(expected.count, expected))
    (answer,) = build_run_page(finished).answer
    (named,) = (label for label in set(expected) if f"always {label!r}" in answer)
    assert expected.count(named) == highest
    assert f"{100 * highest / len(expected):.1f} %" in answer


def test_rows_that_have_changed_are_not_shown_beside_old_answers(
    finished: FinishedRun, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = finished.result.config.task.path
    assert path is not None
    test = path / "test.jsonl"
    before = test.read_text()
    try:
        test.write_text(before.replace("film", "movie"))  # another text of the same label
        assert not read_run(folder).texts
        assert "the rows are others now" in caplog.text
        caplog.clear()
        test.write_text("".join(reversed(before.splitlines(keepends=True))))
        assert not read_run(folder).texts
        assert "the rows are others now" in caplog.text
        test.unlink()
        assert not read_run(folder).texts
    finally:
        test.write_text(before)


def test_a_run_of_an_earlier_version_has_no_probabilities(finished: FinishedRun) -> None:
    old = [replace(prediction, probabilities={}) for prediction in finished.predictions]
    page = render_page(build_run_page(replace(finished, predictions=old)))
    assert all(line[4] == "\N{EN DASH}" for line in table(page, "wrong"))


def test_the_page_is_written_to_the_folder_of_the_run(folder: Path, tmp_path: Path) -> None:
    assert write_report(folder) == folder / "report.html"
    assert write_report(folder, tmp_path / "page.html").is_file()
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    with pytest.raises(ConfigError, match="has not finished"):
        write_report(tmp_path)
    assert not (tmp_path / RESULT_FILE).exists()
