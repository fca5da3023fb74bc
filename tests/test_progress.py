"""Progress: a bar on a terminal, a line now and then elsewhere, with the time that is left."""

import json
import os
import pty
import select
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tunewise.durations import TimeLeft
from tunewise.runs.progress import Lines, Progress, counting
from tunewise.tally import listening, tell_done
from tunewise.training.loop import Step


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_left_is_expected_from_the_time_taken() -> None:
    clock = Clock()
    left = TimeLeft(clock=clock)
    assert left.after(0) is None
    clock.now += 30
    assert left.after(0.25) == pytest.approx(90)
    assert left.after(1) == 0
    resumed = TimeLeft(0.5, clock)
    clock.now += 10
    assert resumed.after(0.5) is None
    assert resumed.after(0.6) == pytest.approx(40)


def test_lines_come_now_and_then_with_the_time_left() -> None:
    clock, text = Clock(), StringIO()
    lines = Lines(Console(file=text, width=30), clock)
    for done in range(0, 301, 10):
        lines.show("rows scored", done, 300)
        clock.now += 1
    shown = text.getvalue().splitlines()
    assert shown == [
        "rows scored 100/300, about 20 s left",
        "rows scored 200/300, about 10 s left",
    ]
    lines.show("rows", 1000, None)
    clock.now += 60
    lines.show("rows", 2000, None)
    assert text.getvalue().splitlines()[2:] == ["rows 1,000", "rows 2,000"]


def test_nothing_is_shown_where_nobody_asked(capfd: pytest.CaptureFixture[str]) -> None:
    tell_done("rows scored", 3)
    with Progress().evaluating("test", 3), Progress().working("reading"):
        tell_done("rows scored", 3)
    with counting(Console(quiet=True)) as show:
        show("rows", 1, 2)
    assert capfd.readouterr() == ("", "")


def test_what_is_done_is_told_to_the_innermost_listener() -> None:
    outer: list[int] = []
    inner: list[int] = []
    with listening(lambda what, count: outer.append(count)):
        tell_done("texts written", 1)
        with listening(lambda what, count: inner.append(count)):
            tell_done("texts written", 2)
        tell_done("texts written", 3)
    tell_done("texts written", 4)
    assert (outer, inner) == ([1, 3], [2])


def test_a_run_in_a_pipe_says_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, text = Clock(), StringIO()
    monkeypatch.setattr("tunewise.runs.progress.TimeLeft", lambda share: TimeLeft(share, clock))
    progress = Progress(Console(file=text, width=200))
    with progress.updates(20):
        for number in range(11, 21):  # resumed after ten updates
            progress.step(Step(number, 1, 0.5, 100, 100, 1e-3, 1.0, 0.5))
            clock.now += 6
    lines = text.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0].endswith(", about 48 s left")
    assert lines[-1].endswith(", about 0 s left")


PROGRAM = """
import sys
from tunewise.cli import main
for words in {commands!r}:
    sys.argv = ["tunewise", *words]
    terminal = sys.stdin, sys.stdout
    if words[0] == "generate":  # from a file, into a file
        sys.stdin, sys.stdout = open("prompts.txt"), open("texts.txt", "w")
    try:
        main.main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
    sys.stdin, sys.stdout = terminal
    print("#done", words[0], flush=True)
"""


def on_terminal(commands: list[list[str]], folder: Path) -> str:
    """Return what some commands show on a terminal of 60 columns."""
    control, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "60", "OMP_NUM_THREADS": "1"}
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(commands=commands)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env=environment,
    ) as process:
        os.close(terminal)
        while select.select([control], [], [], 60)[0]:
            try:
                part = os.read(control, 2**16)
            except OSError:  # the terminal's end
                break
            if not part:
                break
            shown += part
        assert process.wait(timeout=30) == 0, shown.decode()[-2000:]
    os.close(control)
    return shown.decode()


@pytest.mark.slow
def test_every_command_shows_its_progress_on_a_terminal(tmp_path: Path) -> None:
    lines = [{"prompt": "It was", "completion": f" {n}."} for n in range(24)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    study = {
        "name": "s",
        "base": {"task": {"name": "pocket_reviews", "samples": 40}, "train": {"epochs": 1}},
        "vary": {"method": ["last_layer", "bitfit"]},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    (tmp_path / "prompts.txt").write_text("It\nwas\na\n")
    task = ["task.kind=generation", "task.path=rows.jsonl", "task.decoding.max_new_tokens=4"]
    commands = {
        "run": ["run", *task, "train.epochs=1", "train.batch_size=4", "--out", "run"],
        "predict": ["predict", "run", "--input", "rows.jsonl", "--output", "answers.jsonl"],
        "generate": ["generate", "run", "--max-new-tokens", "4"],
        "export": ["export", "run", "--format", "peft", "--out", "out"],
        "study": ["study", "study.yaml", "--out", "study"],
        "report": ["report", "run"],
    }
    shown = on_terminal(list(commands.values()), tmp_path)
    parts = dict(zip(commands, shown.split("#done"), strict=False))
    assert "reading rows and model" in parts["run"]
    assert "/5" in parts["run"] and "0:00:0" in parts["run"]
    assert "test: texts written" in parts["run"]
    assert "rows" in parts["predict"] and "24/24" in parts["predict"]
    assert "prompts" in parts["generate"] and "3/3" in parts["generate"]
    assert "exporting" in parts["export"]
    assert "all runs" in parts["study"]
    assert "making the report" in parts["report"]
    assert "\x1b[?25h" in shown[shown.rindex("\x1b[?25l") :]  # the cursor is there again
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 24
