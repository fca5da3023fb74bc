"""A trial whose model's outputs are not finite has failed; it is shown, and never recommended."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunewise.metrics import METRICS
from tunewise.reports.report import write_report
from tunewise.reports.summary import find_warnings
from tunewise.runs.folder import PREDICTIONS_FILE, RESULT_FILE, read_predictions
from tunewise.studies.compare import compare
from tunewise.studies.study import Study

from .conftest import MakeStudy, RunStudy

pytestmark = pytest.mark.slow

STABLE = {"train.clip_norm": None, "train.schedule": "constant", "train.warmup": 0.0}


def test_a_candidate_that_diverges_fails_and_another_wins(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    study = make_study(
        runs=[{"name": "one", "method": "full", **STABLE}],
        tune={"train.learning_rate": [1e-6, 1e20]},
    )
    failures, _ = go(study)
    assert len(failures) == 1
    assert "one, learning_rate=1e+20: " in failures[0]
    (row,) = (comparison := compare(tmp_path / "study")).rows
    assert [c.status for c in row.candidates] == ["finished", "failed"]
    assert row.winner is row.candidates[0]
    assert comparison.recommended is row
    assert any("learning_rate=1e+20" in warning for warning in find_warnings(comparison))


@pytest.fixture
def old_study(make_study: MakeStudy, go: RunStudy, tmp_path: Path) -> Study:
    """A study of two cells; one has results as earlier versions left them after a divergence."""
    study = make_study(
        runs=[{"name": "good", "method": "full"}, {"name": "broken", "method": "last_layer"}],
        tune={"train.epochs": [1, 2]},
    )
    assert go(study)[0] == []
    for folder in (tmp_path / "study" / "runs").glob("*broken*"):
        path = folder / RESULT_FILE
        result = json.loads(path.read_text())
        result["best"]["value"] = 1.0
        for of_split in result["metrics"].values():
            of_split |= {"accuracy": 1.0, "loss": math.nan}
        path.write_text(json.dumps(result))
        lines = [json.loads(line) for line in (folder / PREDICTIONS_FILE).read_text().splitlines()]
        right = [{**p, "predicted": p["expected"], "log_likelihood": math.nan} for p in lines]
        (folder / PREDICTIONS_FILE).write_text("".join(json.dumps(p) + "\n" for p in right))
    return study


def test_what_an_earlier_version_took_for_the_best_is_not_recommended(
    old_study: Study, go: RunStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewise.reports.report._write_pictures", lambda *_: None)
    comparison = compare(tmp_path / "study")
    good, broken = comparison.rows
    assert broken.winner is None and not broken.runs
    assert {candidate.status for candidate in broken.candidates} == {"failed"}
    assert comparison.best is comparison.recommended is good
    assert any("outputs are not finite" in warning for warning in find_warnings(comparison))
    page = write_report(tmp_path / "study").read_text("utf-8")
    assert "outputs are not finite" in page
    assert "NaN" not in page.split("<script>")[0]
    failures, events = go(old_study)  # what has failed is tried again
    assert failures == []
    assert {event.title.partition(",")[0] for event in events} == {"broken"}
    assert all(row.runs and row.winner for row in compare(tmp_path / "study").rows)


@pytest.mark.parametrize("kind", ["predictions", "metric"])
def test_a_seed_that_is_not_finite_is_not_compared(
    kind: str,
    make_study: MakeStudy,
    go: RunStudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go(make_study(runs=[{"name": "good", "method": "full"}, {"name": "odd", "method": "lora"}]))
    (folder,) = (tmp_path / "study" / "runs").glob("odd*")
    if kind == "predictions":
        text = (folder / PREDICTIONS_FILE).read_text()
        first, _, rest = text.partition("\n")
        broken = {**json.loads(first), "log_likelihood": math.nan}
        (folder / PREDICTIONS_FILE).write_text(json.dumps(broken) + "\n" + rest)
        reason = "the model's outputs are not finite for test.jsonl:1"
    else:
        odd = read_predictions(folder / PREDICTIONS_FILE)
        plain = METRICS["accuracy"]

        def statistics(predictions: Any) -> Any:
            return plain.statistics(predictions) * (math.nan if list(predictions) == odd else 1)

        monkeypatch.setitem(METRICS, "accuracy", replace(plain, statistics=statistics))
        reason = "its accuracy is not finite"
    comparison = compare(tmp_path / "study")
    assert comparison.recommended is comparison.rows[0]
    assert comparison.rows[1].failures == [f"seed 0: {reason}, so it is not compared"]
    assert comparison.pairs == []
