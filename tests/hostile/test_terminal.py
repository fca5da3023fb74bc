"""A terminal obeys nothing that rows, labels and names hold, and nothing in them is markup."""

import json
import sys
from io import StringIO
from pathlib import Path

import pytest
from tiny import save_tiny

from tunewise.cli import main as cli
from tunewise.data.tokenizer import Tokenizer
from tunewise.terminal import CONTROL, for_stdout, visible

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eevil[red]x[/red]\x08"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eevil[red]x[/red]\x08"


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert visible(EVIL) == SHOWN
    assert visible("a\tb\nc é 🎬 \u200f") == "a\tb\nc é 🎬 \u200f"
    assert all(not CONTROL.search(visible(chr(code))) for code in range(0x3000))


def test_a_pipe_gets_every_byte_and_a_terminal_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    assert for_stdout(EVIL) == EVIL
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert for_stdout(EVIL) == SHOWN


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_no_command_passes_on_what_rows_and_names_hold(
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = save_tiny(tmp_path / "m", tokenizer=tokenizer, noise=0.0, num_layers=1, mlp_dim=16)
    monkeypatch.chdir(tmp_path)
    labels = [{"text": f"{EVIL} {n}", "label": f"{EVIL}{n % 2}"} for n in range(12)]
    texts = [{"prompt": f"{EVIL} {n}", "completion": f"{EVIL} {n}"} for n in range(12)]
    for name, rows in {"labels": labels, "texts": texts}.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = {
        "name": "s",
        "base": {"model": str(model), "task": {"kind": "classification", "path": "labels.jsonl"}},
        "runs": [{"name": f"a{EVIL}", "train.epochs": 0}, {"name": "[bold]b", "train.epochs": 1}],
    }
    Path("study.yaml").write_text(json.dumps(study))
    short = ["--model", str(model), "train.epochs=1"]
    task = ["task.kind=generation", "task.path=texts.jsonl", "task.decoding.max_new_tokens=3"]
    commands = [
        ["run", "labels.jsonl", "--target", "label", *short, "--dry-run"],
        ["run", "labels.jsonl", "--target", "label", *short, "--out", "x"],
        ["run", *task, *short, "--dry-run"],
        ["run", *task, *short, "--out", "y"],
        ["run", "labels.jsonl", "--target", EVIL, *short],
        ["study", "study.yaml"],
        ["list", "runs"],
    ]
    shown = ""
    for words in commands:
        monkeypatch.setattr(sys, "argv", ["tunewise", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capfd.readouterr()
        assert caught.value.code in (0, None, 2 if EVIL in words else 0), err
        assert not CONTROL.search(out + err), (words, CONTROL.findall(out + err))
        shown += out + err
    assert SHOWN in shown
    assert "[bold]b" in shown
