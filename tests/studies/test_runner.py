"""A study runs what is missing, whatever happened before, and nothing twice."""

import json
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tunewise.errors import ConfigError, ModelError
from tunewise.runs.folder import (
    ADAPTER_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    locked,
    read_lines,
    read_result,
)
from tunewise.runs.model import load_trained
from tunewise.studies.compare import compare
from tunewise.studies.runner import open_folder, run_study
from tunewise.studies.trials import RUNS_FOLDER, STUDY_FILE, candidates_of, seeds_of

from .conftest import MakeStudy, RunStudy

pytestmark = pytest.mark.slow

GRID = {"method.rank": [1, 2]}
RATES = {"train.learning_rate": [0.001, 0.03]}


def folders(study: Path) -> set[str]:
    return {path.name for path in (study / RUNS_FOLDER).iterdir()}


def what_is_measured(study: Path) -> dict[str, dict[str, Any]]:
    """Return what every finished run left, without what a clock or the machine decides."""
    found = {}
    for path in sorted((study / RUNS_FOLDER).iterdir()):
        values = json.loads((path / RESULT_FILE).read_text())
        for name in ("time", "memory", "estimate", "tokens", "intervals"):
            del values[name]  # other processes draw as many resamples as a user's
        found[path.name] = values | {
            "answers": (path / PREDICTIONS_FILE).read_text() if values["tables"] else ""
        }
    return found


def test_a_study_runs_each_cell_once_per_seed(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(vary=GRID, seeds=2)
    failed, events = go(study)
    assert failed == []
    assert [event.title for event in events if event.ended] == [
        "rank=1, seed=0",
        "rank=1, seed=1",
        "rank=2, seed=0",
        "rank=2, seed=1",
    ]
    for cell in study.cells():
        for trial in seeds_of(study, cell, tmp_path / "study"):
            result = read_result(trial.folder)
            assert result is not None
            assert result.config.seed == trial.config.seed
            unresolved = result.config.method.model_copy(update={"targets": None})
            assert unresolved == trial.config.method
    assert (tmp_path / "study" / STUDY_FILE).is_file()


def test_a_candidate_is_judged_on_validation_data_and_never_sees_the_test_split(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(vary=GRID, tune=RATES, seeds=2)
    failed, events = go(study)
    assert failed == []
    assert len([event for event in events if event.ended]) == 2 * 2 + 2 * 2
    for cell in study.cells():
        candidates = candidates_of(study, cell, tmp_path / "study")
        for candidate in candidates:
            result = read_result(candidate.folder)
            assert result is not None
            assert set(result.metrics) == {"validation"}
            assert "test" not in result.data
            assert result.environment.seed == 0
            assert not (candidate.folder / PREDICTIONS_FILE).read_text()
        best = max(candidates, key=lambda candidate: candidate.value)
        for trial in seeds_of(study, cell, tmp_path / "study"):
            assert trial.config.train.learning_rate == best.overrides["train.learning_rate"]


@pytest.mark.parametrize("keeps", [False, True])
def test_candidates_keep_weights_only_if_asked(
    keeps: bool, make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(tune=RATES, keep_candidates=keeps)
    assert go(study)[0] == []
    (cell,) = study.cells()
    for candidate in candidates_of(study, cell, tmp_path / "study"):
        assert (candidate.folder / ADAPTER_FILE).is_file() == keeps
        if not keeps:
            with pytest.raises(ModelError, match="keep_candidates: true"):
                load_trained(candidate.folder)
    for trial in seeds_of(study, cell, tmp_path / "study"):
        assert (trial.folder / ADAPTER_FILE).is_file()


def test_a_finished_study_runs_nothing_again(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(vary=GRID, tune=RATES)
    go(study)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(RESULT_FILE)}
    failed, events = go(study)
    assert (failed, events) == ([], [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob(RESULT_FILE)} == before


def test_a_changed_study_runs_what_changed_and_keeps_the_rest(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    go(make_study(vary=GRID))
    before = folders(tmp_path / "study")
    _, events = go(make_study(vary={"method.rank": [1, 2, 3]}))
    assert [event.title for event in events if event.ended] == ["rank=3, seed=0"]
    assert before < folders(tmp_path / "study")
    _, events = go(make_study(vary={"method.rank": [1, 2, 3]}, seeds=2))
    assert len([event for event in events if event.ended]) == 3


def test_a_run_that_fails_is_recorded_and_the_others_go_on(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(vary={"method.blocks": ["last-1", "last-9", "all"]})
    failed, _ = go(study)
    assert len(failed) == 1
    assert "blocks=last-9, seed 0: method.blocks: the last 9 asked for" in failed[0]
    assert [bool(row.runs) for row in compare(tmp_path / "study").rows] == [True, False, True]
    _, events = go(study)
    assert [event.title for event in events if event.ended] == ["blocks=last-9, seed=0"]


def test_a_candidate_that_fails_does_not_win(make_study: MakeStudy, go: RunStudy) -> None:
    study = make_study(tune={"method.blocks": ["last-9", "last-1"]})
    failed, events = go(study)
    assert len(failed) == 1
    assert events[-1].title == "base, seed=0"
    assert events[-1].value is not None


def test_a_cell_none_of_whose_candidates_finished_is_named(
    make_study: MakeStudy, go: RunStudy
) -> None:
    failed, _ = go(make_study(tune={"method.blocks": ["last-8", "last-9"]}))
    assert failed[-1] == "base: no candidate has finished, so it was not run"


def test_a_run_that_stopped_before_its_first_checkpoint_starts_again(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study()
    go(study)
    (trial,) = seeds_of(study, study.cells()[0], tmp_path / "study")
    (trial.folder / RESULT_FILE).unlink()
    (trial.folder / METRICS_FILE).write_text('{"number": 1, "lo')
    failed, _ = go(study)
    assert failed == []
    assert read_lines(trial.folder / METRICS_FILE)[0].number == 1


def test_several_processes_come_to_the_same_results(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(vary=GRID, tune=RATES, seeds=2)
    failed, events = go(study, jobs=2)
    assert failed == []
    assert len([event for event in events if event.ended]) == 8
    (tmp_path / "study").rename(tmp_path / "side_by_side")
    go(study)
    assert what_is_measured(tmp_path / "study") == what_is_measured(tmp_path / "side_by_side")


def test_nothing_is_overwritten_unless_a_study_is_resumed(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    go(make_study())
    with pytest.raises(ConfigError, match="--resume continues"):
        open_folder(tmp_path / "study", resume=False)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not the folder of a study"):
        open_folder(other, resume=True)


def test_a_study_that_runs_elsewhere_is_left_alone(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    go(make_study())
    with locked(tmp_path / "study"), pytest.raises(ConfigError, match="another process"):
        go(make_study())


def test_a_study_killed_at_ten_random_moments_ends_like_one_undisturbed(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(vary={"method.rank": [1, 2, 3]}, tune=RATES, seeds=2)
    started = time.monotonic()
    go(study)
    whole = time.monotonic() - started
    (tmp_path / "study").rename(tmp_path / "undisturbed")
    # A server that has imported everything starts a process in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tunewise.studies.runner"])
    chance = random.Random(0)
    for _ in range(10):
        open_folder(tmp_path / "study", resume=True)
        events: Any = context.SimpleQueue()
        process = context.Process(
            target=run_study, args=(study, tmp_path / "study", None, 1, events.put)
        )
        process.start()
        left = chance.randrange(3)  # runs to be finished before one is cut short
        while process.is_alive() and left:
            if events.empty():
                time.sleep(0.01)
            else:
                left -= bool(events.get().ended)
        time.sleep(chance.random() * whole / 10)
        process.kill()
        process.join()
    failed, events = go(study)
    assert failed == []
    assert len({event.run for event in events}) < 12, "the killed processes got nowhere"
    assert what_is_measured(tmp_path / "study") == what_is_measured(tmp_path / "undisturbed")
