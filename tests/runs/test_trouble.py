"""Memory that runs out and losses that are not finite end a run with advice, or it goes on."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewise.errors import TrainingError
from tunewise.models.fast.loss import summed_loss
from tunewise.run import run
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    METRICS_FILE,
)

from .conftest import Configured

pytestmark = pytest.mark.usefixtures("quick")


def test_where_memory_runs_out_passes_shrink_and_updates_stay(
    configured: Configured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = run(configured("method=full"), out=tmp_path / "whole")
    small = run(configured("method=full", "train.tokens_per_pass=48"), out=tmp_path / "small")

    def full(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = summed_loss(model, hidden, targets)
        if len(hidden) > 2:
            raise torch.OutOfMemoryError("not enough memory")
        return loss

    monkeypatch.setattr("tunewise.training.objectives.cross_entropy.summed_loss", full)
    record = run(configured("method=full"), out=tmp_path / "tight")
    assert "out of memory: from here on a pass has at most" in caplog.text
    losses = [[step.loss for step in some.steps] for some in (record, whole, small)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)


def test_a_sequence_that_alone_is_too_much_ends_the_run_with_advice(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate")

    monkeypatch.setattr("tunewise.training.objectives.cross_entropy.summed_loss", full)
    with pytest.raises(TrainingError, match=r"set train\.checkpointing=true"):
        run(configured(), out=tmp_path / "run")


def not_finite_at(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Make the loss of some updates infinite."""
    calls = iter(range(1, 1000))

    def loss(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        factor = math.inf if next(calls) in numbers else 1.0
        return summed_loss(model, hidden, targets) * factor

    monkeypatch.setattr("tunewise.training.objectives.cross_entropy.summed_loss", loss)


def test_a_loss_that_is_not_finite_stops_with_its_rows_and_the_last_checkpoint(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_finite_at(monkeypatch, 5)
    with pytest.raises(TrainingError) as caught:
        run(configured(), out=tmp_path / "run")
    message = str(caught.value)
    assert message.startswith("update 5: loss inf")
    assert "train.jsonl:" in message
    assert "the last checkpoint is of update 4" in message
    assert str(tmp_path / "run" / CHECKPOINT_FOLDER) in message


def test_a_loss_that_is_not_finite_is_left_out_and_counted_if_asked(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_finite_at(monkeypatch, 5, 7)
    record = run(configured("train.on_nan=skip"), out=tmp_path / "run")
    assert record.result.updates_left_out == 2
    assert math.isnan(record.steps[4].loss)
    assert len(record.steps) == 9
    assert "NaN" not in (record.folder / METRICS_FILE).read_text()


def test_with_no_epoch_the_model_is_evaluated_as_it_is(
    configured: Configured, tmp_path: Path
) -> None:
    record = run(configured("train.epochs=0"), out=tmp_path / "run")
    result = record.result
    assert (result.best.epoch, result.best.step) == (0, 0)
    assert result.metrics["validation"]["accuracy"] == result.best.value
    assert len(record.predictions) == 12
    assert (result.time.epoch_seconds, result.tokens.trained) == ([], 0)
