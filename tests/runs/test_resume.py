"""A run that was stopped goes on to the same weights and figures, bit for bit, or says why not."""

import json
import math
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewise.config import RunConfig, make_config
from tunewise.errors import ConfigError, TrainingError
from tunewise.methods import METHODS
from tunewise.models.fast.loss import summed_loss
from tunewise.run import RunRecord, run
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    locked,
    read_lines,
)
from tunewise.runs.progress import Progress
from tunewise.training import checkpoint
from tunewise.training.loop import Step

pytestmark = pytest.mark.usefixtures("quick")

KILLS = int(os.environ.get("TUNEWISE_KILLS", "20"))
"""`make torture` asks for more."""
Configured = Callable[..., RunConfig]


class Stopped(Exception):
    """What is raised in a test where a process would be killed."""


class StopAt(Progress):
    """Stops a run at an update, without a word."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def step(self, step: Step) -> None:
        if step.number == self._number:
            raise Stopped


class SignalAt(Progress):
    """Sends this process signals at an update."""

    def __init__(self, number: int, *signals: signal.Signals) -> None:
        super().__init__()
        self._number, self._signals = number, signals

    def step(self, step: Step) -> None:
        if step.number == self._number:
            for what in self._signals:
                os.kill(os.getpid(), what)


@pytest.fixture
def configured(model_folder: Path, rows: Path) -> Configured:
    def make(*words: str) -> RunConfig:
        values = {
            "model": str(model_folder),
            "task": {"kind": "classification", "path": str(rows)},
            "train": {
                "epochs": 3,
                "batch_size": 5,
                "learning_rate": 0.01,
                "precision": "fp32",
                "checkpoint_every": 2,
            },
        }
        return make_config(fields=values, overrides=words)

    return make


def left(record: RunRecord) -> dict[str, Any]:
    """Return all that a run left, without what a clock or the machine decides."""
    values = json.loads((record.folder / RESULT_FILE).read_text())
    for name in ("time", "memory", "estimate", "intervals"):
        del values[name]  # other processes draw as many resamples as a user's
    del values["tokens"]["per_second"]
    lines = read_lines(record.folder / METRICS_FILE)
    steps = [replace(line, seconds=0.0) for line in lines if isinstance(line, Step)]
    found = {"result": values, "lines": [line for line in lines if not isinstance(line, Step)]}
    found["steps"] = [{**asdict(step), "loss": str(step.loss)} for step in steps]
    for path in sorted(record.folder.rglob("*.safetensors")):
        found[str(path.relative_to(record.folder))] = path.read_bytes()
    return found | {"answers": (record.folder / PREDICTIONS_FILE).read_text()}


CASES = [
    *([f"method={kind}"] for kind in METHODS),
    *([f"train.optimizer={name}"] for name in ("adam", "sgd", "sgd_momentum")),
    ["train.optimizer.beta2=0.9"],
    ["train.precision=bf16"],
    ["method.dora=true", "method.loraplus_lr_ratio=4"],
    ["method.init=pissa"],
    ["train.dropout=0.2", "method.dropout=0.3"],
    ["train.tokens_per_pass=60", "train.dropout=0.1"],
    ["method=last_blocks", "method.blocks=1", "train.tokens_per_pass=60"],
    ["train.early_stopping.patience=1", "train.evaluate_every=1"],
    ["train.length_window=2"],
    ["train.checkpointing=true"],
]


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_a_resumed_run_is_an_undisturbed_one(
    words: list[str], configured: Configured, tmp_path: Path
) -> None:
    config = configured(*words)
    whole = run(config, out=tmp_path / "whole")
    # Stopped twice, one update after a checkpoint and just before one.
    for number in (3, 6):
        with pytest.raises(Stopped):
            run(config, out=tmp_path / "parts", progress=StopAt(number), resume=True)
            raise Stopped  # it may have ended before, by early stopping
    parts = run(config, out=tmp_path / "parts", resume=True)
    assert left(parts) == left(whole)


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(
    configured: Configured, tmp_path: Path
) -> None:
    config = configured()
    whole = run(config, out=tmp_path / "whole")
    with pytest.raises(Stopped):
        run(config, out=tmp_path / "parts", progress=StopAt(1))
    assert left(run(config, out=tmp_path / "parts", resume=True)) == left(whole)


@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_update_with_a_checkpoint(
    what: signal.Signals, configured: Configured, tmp_path: Path
) -> None:
    config = configured("train.checkpoint_every=null")
    whole = run(config, out=tmp_path / "whole")
    before = signal.getsignal(what)
    with pytest.raises(KeyboardInterrupt):
        run(config, out=tmp_path / "parts", progress=SignalAt(5, what))
    assert signal.getsignal(what) is before
    last = checkpoint.read_last(tmp_path / "parts" / CHECKPOINT_FOLDER)
    assert last is not None and last.number == 5
    assert left(run(config, out=tmp_path / "parts", resume=True)) == left(whole)
    assert not (tmp_path / "parts" / CHECKPOINT_FOLDER).exists()


def test_signals_that_come_together_are_one(configured: Configured, tmp_path: Path) -> None:
    config = configured("train.checkpoint_every=null")
    both = SignalAt(5, signal.SIGINT, signal.SIGTERM, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(config, out=tmp_path / "run", progress=both)
    last = checkpoint.read_last(tmp_path / "run" / CHECKPOINT_FOLDER)
    assert last is not None and last.number == 5


def test_asked_again_a_run_stops_at_once(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewise.runs.interrupts.ONE_REQUEST_SECONDS", 0.0)
    config = configured("train.checkpoint_every=null")
    with pytest.raises(KeyboardInterrupt):
        run(config, out=tmp_path / "run", progress=SignalAt(5, *[signal.SIGINT] * 2))
    assert checkpoint.read_last(tmp_path / "run" / CHECKPOINT_FOLDER) is None


def test_a_finished_run_is_not_run_again(configured: Configured, tmp_path: Path) -> None:
    config = configured()
    first = run(config, out=tmp_path / "run")
    again = run(config, out=tmp_path / "run", progress=StopAt(1), resume=True)
    assert again.result == first.result
    assert again.steps == first.steps


def stopped(config: RunConfig, folder: Path) -> Path:
    """Stop a run after two checkpoints and return where they are."""
    with pytest.raises(Stopped):
        run(config, out=folder, progress=StopAt(6))
    checkpoints = folder / CHECKPOINT_FOLDER
    assert len(list(checkpoints.iterdir())) == 2
    return checkpoints


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(
    damage: str, configured: Configured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tunewise")
    config = configured()
    whole = run(config, out=tmp_path / "whole")
    last = max(stopped(config, tmp_path / "parts").iterdir())
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes({"cut": content[:-100], "flipped": content, "empty": b""}[damage])
    parts = run(config, out=tmp_path / "parts", resume=True)
    assert f"{last}: damaged" in caplog.text
    assert "resuming after update 2" in caplog.text
    assert left(parts) == left(whole)


def test_two_checkpoints_are_kept_at_most(configured: Configured, tmp_path: Path) -> None:
    folder = stopped(configured("train.checkpoint_every=1"), tmp_path / "parts")
    assert [path.name[:9] for path in sorted(folder.iterdir())] == ["000000004", "000000005"]


def test_another_configuration_is_refused_and_the_difference_shown(
    configured: Configured, tmp_path: Path
) -> None:
    stopped(configured(), tmp_path / "parts")
    for words, message in (
        (["train.epochs=9"], "was started with train.epochs 3, and this has 9"),
        (["method=full"], "was started with method 'lora', and this has 'full'"),
        (["method.rank=2"], "was started with method.rank 8, and this has 2"),
    ):
        with pytest.raises(ConfigError) as caught:
            run(configured(*words), out=tmp_path / "parts", resume=True)
        assert message in str(caught.value)


def test_other_rows_are_refused(configured: Configured, tmp_path: Path, rows: Path) -> None:
    mine = tmp_path / "rows"
    mine.mkdir()
    for path in rows.iterdir():
        (mine / path.name).write_text(path.read_text())
    config = configured(f"task.path={mine}", "task.kind=classification")
    stopped(config, tmp_path / "parts")
    text = (mine / "train.jsonl").read_text()
    (mine / "train.jsonl").write_text(text.replace("a good film", "a grand film", 1))
    with pytest.raises(ConfigError, match="the train rows are not those that"):
        run(config, out=tmp_path / "parts", resume=True)


def test_a_folder_in_use_is_left_alone(configured: Configured, tmp_path: Path) -> None:
    config = configured()
    stopped(config, tmp_path / "parts")
    with (
        locked(tmp_path / "parts"),
        pytest.raises(ConfigError, match="in use by another process"),
    ):
        run(config, out=tmp_path / "parts", resume=True)


def test_a_folder_that_is_no_run_s_is_left_alone(configured: Configured, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not the folder of a run"):
        run(configured(), out=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_run_goes_on(
    configured: Configured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = configured()
    whole = run(config, out=tmp_path / "whole")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    write = checkpoint.write

    def on_a_full_disk(taken: checkpoint.Checkpoint, folder: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
        try:
            write(taken, folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    monkeypatch.setattr("tunewise.training.checkpoint.write", on_a_full_disk)
    try:
        record = run(config, out=tmp_path / "full")
    finally:
        signal.signal(signal.SIGXFSZ, handler)
    assert "no checkpoint of update 2" in caplog.text
    assert left(record) == left(whole)


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


def test_a_run_killed_at_random_moments_ends_like_one_undisturbed(
    configured: Configured, tmp_path: Path
) -> None:
    epochs = f"train.epochs={2 * KILLS}"  # of three updates each: more than are made between kills
    config = configured(epochs, "train.checkpoint_every=1", "train.dropout=0.1")
    whole = run(config, out=tmp_path / "whole")
    kill_and_resume(config, tmp_path / "parts", kills=KILLS, seed=KILLS)
    assert left(run(config, out=tmp_path / "parts", resume=True)) == left(whole)


def kill_and_resume(config: RunConfig, folder: Path, kills: int, seed: int) -> None:
    """Begin and resume a run, and kill its process each time soon after a checkpoint or in one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tunewise.run"])
    chance = random.Random(seed)
    for _ in range(kills):
        arguments = {"out": folder, "resume": True}
        process = context.Process(target=run, args=(config,), kwargs=arguments)
        process.start()
        before = checkpoints(folder)
        while process.is_alive() and checkpoints(folder) == before:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.05)  # a few updates, each with its checkpoint
        process.kill()
        process.join()


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in (folder / CHECKPOINT_FOLDER).glob("*")}
