"""`chat` keeps the conversation, in the words of training; `generate` uses these words, too."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewise.config import make_config
from tunewise.data.say_once import say_once
from tunewise.predict import Predictor, load
from tunewise.run import run
from tunewise.tasks import Instruction

from .conftest import Tunewise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

FEW = ("--max-new-tokens", "6")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: of chats, of instructions, of completions and of labels."""
    folder = tmp_path_factory.mktemp("runs")
    turns = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b."}]
    kinds = {
        "chats": ("instruction", {"messages": turns}),
        "instructions": ("instruction", {"instruction": "a?", "input": "", "output": "b."}),
        "completions": ("generation", {"prompt": "a?", "completion": "b."}),
        "labels": ("classification", {"text": "a", "label": "x"}),
    }
    for name, (kind, row) in kinds.items():
        rows = [
            row | ({"label": "xy"[n % 2]} if kind == "classification" else {}) for n in range(12)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = make_config(
            fields={
                "model": "pocket",
                "task": {"kind": kind, "path": str(folder / f"{name}.jsonl")},
                "train": {"epochs": 0, "precision": "fp32"},
            }
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 5)
            run(config, out=folder / name)
    return folder


def type_lines(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def asked(predictor: Predictor, *contents: str, system: str | None = None) -> str:
    """Return the answer to a conversation in which the user and the assistant take turns."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    messages += [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]
    return "".join(predictor.reply(messages, max_new_tokens=6))


@pytest.mark.parametrize("name", ["chats", "instructions"])
def test_each_message_is_answered_with_what_was_said_before(
    name: str, runs: Path, tunewise: Tunewise, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = load(runs / name)
    first = asked(predictor, "one")
    second = asked(predictor, "one", first.strip(), "two")
    told = asked(predictor, "one", system="Be kind.")
    type_lines(monkeypatch, "one", "", "two", "/reset", "one")
    answer = tunewise("chat", runs / name, *FEW)
    assert answer.code == 0
    assert answer.out == f"{first}\n{second}\n{first}\n"
    assert first != second
    type_lines(monkeypatch, "one", "/quit", "two")
    assert tunewise("chat", runs / name, *FEW, "--system", "Be kind.").out == f"{told}\n"


def test_an_instruction_is_put_into_the_words_of_training_unless_raw(
    runs: Path, tunewise: Tunewise
) -> None:
    predictor = load(runs / "instructions")
    assert isinstance(predictor.config.task, Instruction)
    worded = predictor.config.task.without_input.format(instruction="one")
    words = ("generate", runs / "instructions", "--prompt")
    expected = predictor.generate(worded, max_new_tokens=6)
    assert tunewise(*words, "one", *FEW).out == f"{expected}\n"
    raw = predictor.generate("one", max_new_tokens=6)
    assert tunewise(*words, "one", *FEW, "--raw").out == f"{raw}\n"
    assert tunewise(*words, worded, *FEW, "--raw").out == f"{expected}\n"
    assert expected != raw


def test_a_run_of_prompts_reads_each_message_alone_and_says_so(
    runs: Path, tunewise: Tunewise, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_lines(monkeypatch, "one", "two")
    answer = tunewise("chat", runs / "completions", *FEW)
    predictor = load(runs / "completions")
    assert answer.out == "".join(
        f"{predictor.generate(text, max_new_tokens=6)}\n" for text in ("one", "two")
    )
    assert "each message is the 'prompt' of a row" in answer.err
    told = tunewise("chat", runs / "completions", "--system", "Be kind.")
    assert told.code == 2
    assert "error: --system: the task reads one column of a row" in told.err


def test_labels_are_no_conversation(runs: Path, tunewise: Tunewise) -> None:
    answer = tunewise("chat", runs / "labels")
    assert answer.code == 2
    assert answer.err == "error: the model has a label layer and writes nothing; use predict\n"


def test_a_long_conversation_loses_its_oldest_part_and_this_is_said_once(
    runs: Path,
    tunewise: Tunewise,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    say_once.cache_clear()
    type_lines(monkeypatch, *["a long question, " * 90] * 5)
    answer = tunewise("chat", runs / "chats", *FEW)
    assert answer.code == 0
    assert answer.out.count("\n") >= 6
    assert caplog.text.count("its oldest part is left out") == 1


def test_ctrl_c_ends_an_answer_and_at_the_prompt_the_program() -> None:
    control, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tunewise", "chat", "pocket", "--max-new-tokens", "800"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "dumb", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        # Whoever started the tests may ignore it, such as a shell in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(terminal)
        try:
            shown = wait_for(control, "> ")
            os.write(control, b"It was\n")
            shown += wait_for(control, "It was\r\n", " ")
            process.send_signal(signal.SIGINT)
            shown += wait_for(control, "(ended early)", "> ")
            time.sleep(0.5)  # until it waits for a line, as a person would
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()
        assert "Traceback" not in shown
    os.close(control)


def wait_for(control: int, *texts: str) -> str:
    """Return what a terminal shows up to the last of some texts, which come one after the other."""
    shown, seen, left = "", 0, list(texts)
    while left:
        ready, _, _ = select.select([control], [], [], 20)
        assert ready, (shown, left)
        shown += os.read(control, 4096).decode()
        while left and left[0] in shown[seen:]:
            seen = shown.index(left[0], seen) + len(left.pop(0))
    return shown
