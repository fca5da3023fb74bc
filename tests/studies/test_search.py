"""A search spends its budget, learns from it, and resumes where it was stopped."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunewise.errors import ConfigError
from tunewise.runs.folder import RESULT_FILE
from tunewise.studies import search as searching
from tunewise.studies.compare import compare
from tunewise.studies.runner import open_folder
from tunewise.studies.search import search
from tunewise.studies.study import Study
from tunewise.studies.trials import RUNS_FOLDER, Trial, candidates_of, search_file, seeds_of

from .conftest import MakeStudy, RunStudy

pytestmark = pytest.mark.slow

SPACE: dict[str, Any] = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "method.rank": {"low": 1, "high": 8},
    "method.scaling": {"choices": ["alpha", "alpha/r"]},
}


class Stopped(Exception):
    """What a test raises where a process would be killed."""


def quality(trial: Trial) -> float:
    """Return a value that is the better, the nearer the rate is to 0.01."""
    assert trial.config.train.learning_rate is not None
    return 1 - abs(trial.config.train.learning_rate - 0.01)


def tried(study: Study, folder: Path) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(search_file(study.cells()[0], folder).read_text())
    return values


def test_each_cell_gets_the_same_number_of_candidates_and_the_best_is_run(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    space = {"train.learning_rate": SPACE["train.learning_rate"]}
    study = make_study(vary={"method.rank": [1, 2]}, search={"space": space, "trials": 4}, seeds=2)
    failed, _ = go(study)
    assert failed == []
    for cell in study.cells():
        candidates = candidates_of(study, cell, tmp_path / "study")
        assert [candidate.status for candidate in candidates] == ["finished"] * 4
        rates = {candidate.overrides["train.learning_rate"] for candidate in candidates}
        assert len(rates) == 4
        assert all(1e-4 <= rate <= 1e-1 for rate in rates)
        best = max(candidates, key=lambda candidate: candidate.value)
        for trial in seeds_of(study, cell, tmp_path / "study"):
            assert trial.config.train.learning_rate == best.overrides["train.learning_rate"]
            assert trial.status == "finished"
    assert [row.winner is not None for row in compare(tmp_path / "study").rows] == [True, True]
    before = {path.name for path in (tmp_path / "study" / RUNS_FOLDER).iterdir()}
    _, events = go(study)
    assert events == []
    assert {path.name for path in (tmp_path / "study" / RUNS_FOLDER).iterdir()} == before


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_is_stopped_tries_what_it_would_have_tried(
    make_study: MakeStudy, tmp_path: Path, sampler: str
) -> None:
    study = make_study(search={"space": SPACE, "trials": 14, "sampler": sampler})
    (cell,) = study.cells()
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    search(study, cell, tmp_path / "whole", lambda trial, watch: quality(trial))
    for stop_after in (3, 1, 6, 99):
        left = [stop_after]

        def attempt(trial: Trial, watch: Any, left: list[int] = left) -> float:
            if not left[0]:
                raise Stopped
            left[0] -= 1
            return quality(trial)

        try:
            search(study, cell, tmp_path / "parts", attempt)
        except Stopped:
            continue
    whole, parts = tried(study, tmp_path / "whole"), tried(study, tmp_path / "parts")
    assert whole == parts
    assert len(whole) == 14
    assert all(type(values["overrides"]["method.rank"]) is int for values in whole)


def test_a_search_learns_from_what_it_tried(make_study: MakeStudy, tmp_path: Path) -> None:
    space = {"train.learning_rate": {"low": 0.0001, "high": 1.0}}
    study = make_study(search={"space": space, "trials": 30})
    search(study, study.cells()[0], tmp_path, lambda trial, watch: quality(trial))
    rates = [values["overrides"]["train.learning_rate"] for values in tried(study, tmp_path)]
    first, last = (sum(abs(rate - 0.01) for rate in some) for some in (rates[:10], rates[-10:]))
    assert last < first / 2


def test_a_poor_candidate_is_stopped_early_and_counts_as_tried(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(search={"space": SPACE, "trials": 12, "pruner": "median"})
    (cell,) = study.cells()
    stopped = []

    def attempt(trial: Trial, watch: searching.Watch) -> float:
        for update in range(5):
            try:
                watch(update, quality(trial))
            except Exception:
                stopped.append(trial.folder.name)
                raise
        return quality(trial)

    search(study, cell, tmp_path, attempt)
    values = tried(study, tmp_path)
    assert len(values) == 12
    assert stopped
    assert [v["folder"] for v in values if v["status"] == "pruned"] == stopped
    statuses = {c.status for c in candidates_of(study, cell, tmp_path)}
    assert "pruned" in statuses


def test_a_pruned_run_leaves_no_result_and_does_not_win(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(
        base=make_study().base | {"train": {"epochs": 4, "batch_size": 6, "precision": "fp32"}},
        search={
            "space": {"train.learning_rate": {"low": 1e-6, "high": 1e-1, "log": True}},
            "trials": 8,
            "pruner": "halving",
        },
    )
    failed, _ = go(study)
    assert failed == []
    for candidate in candidates_of(study, study.cells()[0], tmp_path / "study"):
        assert candidate.status in ("finished", "pruned")
        assert (candidate.folder / RESULT_FILE).is_file() == (candidate.status == "finished")


def test_a_failed_candidate_counts_as_tried(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(search={"space": SPACE, "trials": 3})
    search(study, study.cells()[0], tmp_path, lambda trial, watch: None)
    assert [values["status"] for values in tried(study, tmp_path)] == ["fail"] * 3


def test_another_database_can_be_named(make_study: MakeStudy, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    study = make_study(search={"space": SPACE, "trials": 1, "storage": storage})
    search(study, study.cells()[0], tmp_path, lambda trial, watch: 1.0)
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (tmp_path / "search.db").exists()


def test_without_optuna_the_extra_is_named(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    study = make_study(search={"space": SPACE, "trials": 1})
    open_folder(tmp_path / "study", resume=True)
    with pytest.raises(ConfigError, match=r"tunewise\[search\]"):
        search(study, study.cells()[0], tmp_path / "study", lambda trial, watch: 1.0)
