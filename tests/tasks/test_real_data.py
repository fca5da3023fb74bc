"""Every task of the catalogue whose rows are here is trained on, end to end, for a few updates."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewise.config import make_config
from tunewise.data.rows import SPLITS
from tunewise.metrics import METRICS
from tunewise.run import run
from tunewise.runs.folder import PREDICTIONS_FILE, RESULT_FILE, read_predictions
from tunewise.runs.predictions import metrics_while_training
from tunewise.tasks.named import task_names
from tunewise.tasks.task import POCKET_REVIEWS

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 2},
    "last_blocks": {"kind": "last_blocks", "blocks": 1},
}


@pytest.mark.real_data
@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("name", task_names())
def test_a_few_updates_leave_a_result_with_every_metric_and_every_answer(
    name: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    data = None
    if name != POCKET_REVIEWS:
        data = request.getfixturevalue("shared_data")
        if not (data / name).is_dir():
            pytest.skip(f"no {data / name}")
    monkeypatch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 5)
    monkeypatch.setattr("tunewise.run.choose_device", lambda: torch.device("cpu"))
    words = ["task.samples=8", "train.epochs=1", "train.batch_size=4", "train.max_length=48"]
    fields = {"task": name, "method": METHODS[kind]}
    if make_config(fields=fields).task.answer_kind.writes_text:
        words.append("task.decoding.max_new_tokens=4")
    config = make_config(fields=fields, overrides=words)

    record = run(config, data, tmp_path / "run")

    assert len(record.steps) == 2
    assert all(math.isfinite(step.loss) for step in record.steps)
    result = json.loads((tmp_path / "run" / RESULT_FILE).read_text("utf-8"))
    assert result["metrics"]["test"].keys() == set(config.task.metrics)
    assert result["metrics"]["validation"].keys() == set(metrics_while_training(config))
    assert {split: result["data"][split]["examples"] for split in SPLITS} == dict.fromkeys(
        SPLITS, 8
    )
    for value in result["metrics"]["test"].values():
        assert math.isfinite(value)

    examples = config.task.examples("test", data)
    lines = (tmp_path / "run" / PREDICTIONS_FILE).read_text("utf-8").splitlines()
    predictions = read_predictions(tmp_path / "run" / PREDICTIONS_FILE)
    assert len(lines) == 8
    assert [p.id for p in predictions] == [example.id for example in examples]
    for prediction, example in zip(predictions, examples, strict=True):
        assert prediction.expected
        if example.choices:
            choices = [choice.strip() for choice in example.choices]
            assert prediction.expected == example.target.strip()
            assert prediction.predicted in choices
        else:
            assert example.target.strip() in prediction.expected
            assert prediction.prompt == example.prompt + example.cue
    for metric, value in result["metrics"]["test"].items():
        assert METRICS[metric].compute(predictions) == pytest.approx(value)
