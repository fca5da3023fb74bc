"""A resumed run goes on from its checkpoint alone, which has to be its own."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewise.errors import ConfigError
from tunewise.run import run
from tunewise.runs.folder import CHECKPOINT_FOLDER, METRICS_FILE

from .conftest import Configured, StopAt, Stopped, left

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

RESUMES = int(os.environ.get("TUNEWISE_RESUMES", "6"))
"""Number of random damages; `make torture` asks for more."""


def stopped(configured: Configured, folder: Path, at: int, *words: str) -> Path:
    with pytest.raises(Stopped):
        run(configured(*words), out=folder, progress=StopAt(at))
    return folder


def edited(lines: list[bytes], chance: random.Random) -> list[bytes]:
    line = chance.randrange(len(lines))
    lines[line] = lines[line].replace(b"0", b"7")
    return lines


def without_a_line(lines: list[bytes], chance: random.Random) -> list[bytes]:
    place = chance.randrange(len(lines))
    return lines[:place] + lines[place + 1 :]


def with_a_line_twice(lines: list[bytes], chance: random.Random) -> list[bytes]:
    place = chance.randrange(len(lines))
    return lines[:place] + lines[max(0, place - 1) :]


def cut(lines: list[bytes], chance: random.Random) -> list[bytes]:
    text = b"".join(lines)
    return [text[: chance.randrange(len(text))]]


DAMAGES: dict[str, Callable[[list[bytes], random.Random], list[bytes]]] = {
    "empty": lambda lines, _: [],
    "a line less": without_a_line,
    "a line twice": with_a_line_twice,
    "cut at a byte": cut,
    "edited": edited,
    "in another order": lambda lines, _: lines[::-1],
    "of another kind": lambda lines, _: [b"\x00\xff not a line\n"],
}


@pytest.mark.parametrize("number", range(RESUMES))
@pytest.mark.parametrize("words", ["method=lora", "method=full train.early_stopping.patience=2"])
def test_a_damaged_log_changes_nothing(
    words: str,
    number: int,
    configured: Configured,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    chance = random.Random(number)
    undisturbed = left(run(configured(*words.split()), out=tmp_path / "whole"))
    folder = stopped(configured, tmp_path / "run", chance.randrange(3, 9), *words.split())
    path = folder / METRICS_FILE
    damage = chance.choice(list(DAMAGES)) if number >= len(DAMAGES) else list(DAMAGES)[number]
    before = path.read_bytes()
    path.write_bytes(b"".join(DAMAGES[damage](before.splitlines(keepends=True), chance)))
    if number == 0:
        path.unlink()
    damaged = path.read_bytes() if path.exists() else b""
    again = run(configured(*words.split()), out=folder, resume=True)
    assert left(again) == undisturbed
    if not damaged.startswith(before[: len(before) // 4]):
        assert any("has changed; it is written anew" in text for text in caplog.messages)


@pytest.mark.parametrize("words", ["seed=5", "train.learning_rate=0.02", "method.alpha=3"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_checkpoint_of_other_settings_is_refused(
    words: str, beside: bool, configured: Configured, tmp_path: Path
) -> None:
    folder = stopped(configured, tmp_path / "run", 5)
    other = stopped(configured, tmp_path / "other", 9 if beside else 5, words)
    if not beside:
        shutil.rmtree(folder / CHECKPOINT_FOLDER)
    shutil.copytree(other / CHECKPOINT_FOLDER, folder / CHECKPOINT_FOLDER, dirs_exist_ok=True)
    with pytest.raises(ConfigError, match="is of another run; remove it"):
        run(configured(), out=folder, resume=True)


def test_a_checkpoint_of_another_run_with_the_same_settings_is_refused(
    configured: Configured, tmp_path: Path
) -> None:
    folder = stopped(configured, tmp_path / "run", 5)
    other = stopped(configured, tmp_path / "other", 5)
    shutil.rmtree(folder / CHECKPOINT_FOLDER)
    shutil.copytree(other / CHECKPOINT_FOLDER, folder / CHECKPOINT_FOLDER)
    with pytest.raises(ConfigError, match="is of another run; remove it"):
        run(configured(), out=folder, resume=True)


def test_a_copy_of_a_run_goes_on(configured: Configured, tmp_path: Path) -> None:
    undisturbed = left(run(configured(), out=tmp_path / "whole"))
    folder = stopped(configured, tmp_path / "run", 5)
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    assert left(run(configured(), out=tmp_path / "copy", resume=True)) == undisturbed


def test_a_stop_in_the_test_evaluation_does_not_cost_the_training(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "train.checkpoint_every=null"
    undisturbed = left(run(configured(words), out=tmp_path / "whole"))
    monkeypatch.setattr("tunewise.runs.resume.MUCH_SECONDS", 0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tunewise.run.predict_test", interrupted)
        run(configured(words), out=tmp_path / "run")
    monkeypatch.setattr("tunewise.training.loop._gradient", lambda *_: pytest.fail("trained again"))
    assert left(run(configured(words), out=tmp_path / "run", resume=True)) == undisturbed


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt
