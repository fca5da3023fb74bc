"""Studies that lie are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewise.reports.report import write_report
from tunewise.runs.folder import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
)
from tunewise.settings import validate
from tunewise.studies.study import Study
from tunewise.studies.trials import search_file

from .conftest import Copy, refusal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_the_cpu")]


def one_run(folder: Path) -> Path:
    return min((folder / "runs").iterdir())


def shorter(folder: Path) -> None:
    path = one_run(folder) / PREDICTIONS_FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def untested(folder: Path) -> None:
    path = one_run(folder) / RESULT_FILE
    result = json.loads(path.read_text())
    del result["metrics"]["test"]
    path.write_text(json.dumps(result))


STUDIES: dict[str, Callable[[Path], Any]] = {
    "fewer predictions than examples": shorter,
    "a result without a test": untested,
    "no predictions": lambda folder: (one_run(folder) / PREDICTIONS_FILE).unlink(),
    "steps of no form": lambda folder: (one_run(folder) / METRICS_FILE).write_text("{}\n"),
    "a study that is none": lambda folder: (folder / "study.yaml").write_text("name: [a]"),
    "a study called as a folder above": lambda folder: (folder / "study.yaml").write_text(
        (folder / "study.yaml").read_text().replace("name: tiny", "name: ../tiny")
    ),
}


@pytest.mark.parametrize("what", STUDIES)
def test_a_report_of_a_study_that_lies_is_refused(study: Path, copy: Copy, what: str) -> None:
    folder = copy(study)
    STUDIES[what](folder)
    assert str(folder) in refusal(lambda: write_report(folder))


@pytest.mark.parametrize("place", ["../../elsewhere", "/etc", "..", "a/b", "", "a\0"])
def test_a_search_s_candidates_are_in_the_study_s_folder(
    study: Path, copy: Copy, place: str
) -> None:
    folder = copy(study)
    values = yaml.safe_load((folder / "study.yaml").read_text())
    values["search"] = {"space": {"train.epochs": {"low": 1, "high": 9}}, "trials": 1}
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    (folder / "searches").mkdir()
    tried = [{"overrides": {"train.epochs": 3}, "folder": place, "status": "complete"}]
    for cell in validate(Study, values, "test").cells():
        search_file(cell, folder).write_text(json.dumps(tried))
    assert "searches" in refusal(lambda: write_report(folder))
