"""Ctrl-C says how to go on, on a terminal and in a pipe, and the command that it gives does so."""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewise.runs.folder import METRICS_FILE, RESULT_FILE

pytestmark = pytest.mark.slow


def start(words: list[str], folder: Path, output: int) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm"}
    command = [sys.executable, "-m", "tunewise", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)


def read_all(source: int) -> str:
    """Return what is left to read from a pipe or a terminal whose other end is closed."""
    parts = []
    try:
        while part := os.read(source, 2**16):
            parts.append(part)
    except OSError:  # a terminal's end
        pass
    return b"".join(parts).decode()


def interrupt(words: list[str], folder: Path, on_terminal: bool) -> tuple[int, str]:
    """Press Ctrl-C after some updates; return the exit code and everything that was shown."""
    source, sink = pty.openpty() if on_terminal else os.pipe()
    process = start(words, folder, sink)
    os.close(sink)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in folder.rglob(METRICS_FILE)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    shown = read_all(source)
    os.close(source)
    return process.wait(timeout=60), shown


SHORT = ["task.samples=60", "train.epochs=1", "train.batch_size=4"]
STUDY = {
    "name": "two",
    "base": {"task": {"name": "pocket_reviews", "samples": 60}, "train": {"epochs": 1}},
    "vary": {"method": ["lora", "bitfit"]},
}


@pytest.mark.parametrize(
    ("words", "on_terminal"),
    [
        (["run", *SHORT, "--out", "a folder"], True),
        (["study", "study.yaml", "train.batch_size=4"], False),
    ],
    ids=["run on a terminal", "study in a pipe"],
)
def test_an_interrupted_command_says_how_to_go_on(
    words: list[str], on_terminal: bool, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(json.dumps(STUDY))
    code, shown = interrupt(words, tmp_path, on_terminal)
    assert code == 130, shown
    assert "Traceback" not in shown
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[-1] == "interrupted"
    (command,) = (line.partition("to go on: ")[2] for line in lines if "to go on: " in line)
    program, *rest = shlex.split(command)
    assert program == "tunewise"
    assert not list(tmp_path.rglob(RESULT_FILE))
    process = start(rest, tmp_path, subprocess.DEVNULL)
    assert process.wait(timeout=100) == 0
    assert len(list(tmp_path.rglob(RESULT_FILE))) == (2 if words[0] == "study" else 1)
