"""The table shown before a study's first step: what is to be run, and what it will take."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tunewise.durations import format_duration
from tunewise.runs.memo import Shared
from tunewise.studies.live import estimate_cells, show_plan
from tunewise.studies.study import Study

from .conftest import MakeStudy, RunStudy

pytestmark = pytest.mark.slow

GRID = {"method": ["lora", "full"]}


def shown(study: Study, folder: Path, jobs: int = 1) -> tuple[int, list[str]]:
    text = StringIO()
    plan = show_plan(study, folder, None, jobs, Console(file=text, width=120))
    return plan.num_runs, text.getvalue().splitlines()


def test_memory_and_time_of_every_cell_are_shown_before_the_first_step(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(vary=GRID, seeds=2)
    expected = estimate_cells(study, tmp_path, None, 1, Shared())
    assert expected.keys() == {"lora", "full"}
    # Which needs more is tested with the estimate: here this process is far larger than a model.
    assert min(estimate.peak_bytes for estimate in expected.values()) > 2**26
    num_runs, lines = shown(study, tmp_path)
    assert num_runs == 4
    assert all("GiB" in line for line in lines[1:3])
    assert lines[3].startswith("4 runs; 0 done, 4 to do, in about ")
    assert "in each of 2 processes" in shown(study, tmp_path, jobs=2)[1][3]


def test_a_finished_cell_takes_nothing(make_study: MakeStudy, go: RunStudy, tmp_path: Path) -> None:
    study = make_study(vary=GRID)
    go(make_study(runs=[{"name": "lora"}]))
    folder = tmp_path / "study"
    assert estimate_cells(study, folder, None, 1, Shared()).keys() == {"full"}
    go(study)
    assert not estimate_cells(study, folder, None, 1, Shared())
    assert shown(study, folder)[1][-1] == "2 runs; 2 done, 0 to do"


def test_a_cell_that_cannot_be_run_leaves_the_whole_unknown(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(vary={"method.blocks": ["all", "last-9"]})  # of two
    assert estimate_cells(study, tmp_path, None, 1, Shared()).keys() == {"blocks=all"}
    assert shown(study, tmp_path)[1][-1] == "2 runs; 0 done, 2 to do"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_a_time_is_shown_as_people_read_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
