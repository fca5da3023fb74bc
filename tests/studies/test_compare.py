"""A comparison says which differences are significant, and recommends by its rule."""

from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from tunewise.config import write_yaml
from tunewise.errors import ConfigError
from tunewise.runs.folder import ORIGIN_FILE
from tunewise.runs.origin import read_origin, write_origin
from tunewise.studies import compare as comparing
from tunewise.studies.compare import Comparison, compare
from tunewise.studies.trials import STUDY_FILE, seeds_of

from .conftest import MakeStudy, RunStudy

pytestmark = pytest.mark.slow

METHODS = [{"name": "all", "method": "full"}, {"name": "top", "method": "last_layer"}]


@pytest.fixture
def compared(make_study: MakeStudy, go: RunStudy, tmp_path: Path) -> Comparison:
    go(make_study(runs=METHODS, vary={"train.epochs": [1, 2]}, seeds=2))
    return compare(tmp_path / "study")


def test_every_cell_has_a_row_with_its_costs_and_metrics(compared: Comparison) -> None:
    assert [row.name for row in compared.rows] == [
        "all, epochs=1",
        "all, epochs=2",
        "top, epochs=1",
        "top, epochs=2",
    ]
    for row in compared.rows:
        results = [run.result for run in row.runs]
        assert len(results) == 2
        values = [result.metrics["test"]["accuracy"] for result in results]
        assert row.metrics["accuracy"].mean == pytest.approx(sum(values) / 2)
        assert row.cost("trainable") == results[0].parameters.trainable
        assert row.cost("memory") > 0
        assert row.cost("time") > 0


def test_every_two_cells_are_compared_once_and_can_be_asked_either_way(
    compared: Comparison,
) -> None:
    assert len(compared.pairs) == 6
    there = compared.pair("all, epochs=1", "top, epochs=2")
    back = compared.pair("top, epochs=2", "all, epochs=1")
    assert there is not None and back is not None
    assert there.difference.mean == -back.difference.mean
    assert there.difference.low == -back.difference.high
    assert there.corrected == back.corrected
    assert all(pair.corrected >= pair.p for pair in compared.pairs)


def test_an_axis_has_the_mean_of_the_cells_at_each_of_its_values(compared: Comparison) -> None:
    effects = {(effect.axis, effect.value): effect for effect in compared.effects}
    assert set(effects) == {
        ("run", "all"),
        ("run", "top"),
        ("train.epochs", "epochs=1"),
        ("train.epochs", "epochs=2"),
    }
    rows = {row.name: row.metrics["accuracy"].mean for row in compared.rows}
    mean = (rows["all, epochs=1"] + rows["all, epochs=2"]) / 2
    assert effects["run", "all"].interval.mean == pytest.approx(mean)


def test_the_cheapest_of_those_not_significantly_worse_is_recommended(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert compared.best is not None and compared.recommended is not None
    assert compared.best in compared.not_worse
    cheapest = min(compared.not_worse, key=lambda row: row.cost("trainable"))
    assert compared.recommended is cheapest
    monkeypatch.setattr(comparing, "SIGNIFICANT", 1.1)  # so that every difference is significant
    strict = compare(tmp_path / "study")
    assert strict.not_worse == [strict.best] == [strict.recommended]


def test_nothing_is_recommended_while_something_is_to_be_run(
    compared: Comparison, tmp_path: Path
) -> None:
    cell = compared.rows[-1]
    rmtree(cell.runs[-1].folder)
    unfinished = compare(tmp_path / "study")
    assert unfinished.recommended is None
    assert unfinished.best is not None
    assert [row.name for row in unfinished.rows if row.num_open] == [cell.name]


def test_one_seed_has_the_interval_over_examples_and_mcnemar_s_test(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    go(make_study(runs=METHODS))
    compared = compare(tmp_path / "study")
    for row in compared.rows:
        shown = row.metrics["accuracy"]
        interval = row.runs[0].result.intervals["test"]["accuracy"]
        assert (shown.low, shown.high) == interval
    assert [pair.test for pair in compared.pairs] == ["McNemar"]


def test_a_winner_at_the_end_of_its_range_is_named(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    go(make_study(tune={"train.learning_rate": [1e-9, 3e-2]}))
    (row,) = compare(tmp_path / "study").rows
    assert row.edges == ["train.learning_rate"]
    go(make_study(tune={"method.scaling": ["alpha", "alpha/r"]}))
    (row,) = compare(tmp_path / "study").rows
    assert row.edges == []


def test_a_study_that_has_not_run_is_compared_as_far_as_it_is(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    go(make_study(vary={"method.blocks": ["last-9"]}))
    compared = compare(tmp_path / "study")
    assert (compared.best, compared.recommended, compared.pairs) == (None, None, [])
    assert "the last 9 asked for" in compared.rows[0].failures[0]


def one_after_the_other(
    make_study: MakeStudy, go: RunStudy, folder: Path, axis: str, values: list[Any]
) -> None:
    """Run cells as studies of their own, and leave a study of all of them."""
    for value in values:
        go(make_study(vary={axis: [value]}))
    write_yaml(make_study(vary={axis: values}), folder / STUDY_FILE)


def test_runs_on_other_rows_are_not_compared(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    one_after_the_other(make_study, go, tmp_path / "study", "task.samples", [4, 8])
    with pytest.raises(ConfigError, match="have different test examples"):
        compare(tmp_path / "study")


def test_runs_on_other_texts_with_the_same_labels_are_not_compared(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(vary={"method.rank": [1, 2]})
    go(study)
    (trial,) = seeds_of(study, study.cells()[0], tmp_path / "study")
    origin = read_origin(trial.folder)
    assert origin is not None
    changed = origin.model_copy(update={"rows": origin.rows | {"test": "of another text"}})
    write_origin(changed, trial.folder)
    with pytest.raises(ConfigError, match="have different test examples"):
        compare(tmp_path / "study")
    (trial.folder / ORIGIN_FILE).unlink()  # as of an earlier version
    assert len(compare(tmp_path / "study").pairs) == 1


def test_only_a_study_s_folder_can_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a study"):
        compare(tmp_path)
    with pytest.raises(ConfigError, match="gone: no such folder"):
        compare(tmp_path / "gone")
