"""A run that was stopped goes on to the same weights and figures, bit for bit, or says why not."""

import os
import resource
import signal
from pathlib import Path

import pytest

from tunewise.config import RunConfig
from tunewise.errors import ConfigError
from tunewise.methods import METHODS
from tunewise.run import run
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    locked,
)
from tunewise.runs.progress import Progress
from tunewise.training import checkpoint
from tunewise.training.loop import Step
from tunewise.training.optimizers import NAMES

from .conftest import Configured, StopAt, Stopped, left

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]


class SignalAt(Progress):
    """Sends this process signals at an update."""

    def __init__(self, number: int, *signals: signal.Signals) -> None:
        super().__init__()
        self._number, self._signals = number, signals

    def step(self, step: Step) -> None:
        if step.number == self._number:
            for what in self._signals:
                os.kill(os.getpid(), what)


CASES = [
    *([f"method={kind}"] for kind in METHODS),
    *([f"train.optimizer={name}"] for name in NAMES),
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
