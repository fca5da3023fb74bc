"""Help comes at once; a mistake costs one line and exit code 2."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Tunewise, real_process

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], []])
def test_help_names_commands_and_options(tunewise: Tunewise, arguments: list[str]) -> None:
    answer = tunewise(*arguments)
    assert answer.code == 0
    expected = (
        ["--model", "--out", "--data", "--dry-run"]
        if "run" in arguments
        else ["run", "params", "list"]
    )
    assert all(word in answer.out for word in expected)


MISTAKES: dict[str, tuple[list[str], str]] = {
    "an unknown command": (["rnu"], "rnu"),
    "an unknown option": (["run", "--modle", "gpt2"], "--modle"),
    "an option without its value": (["run", "--model"], "--model"),
    "a missing argument": (["list"], "models|tasks|methods|metrics|objectives|runs"),
    "an unknown list": (["list", "model"], "did you mean 'models'?"),
    "an unknown field": (["run", "train.epoch=1"], "did you mean 'epochs'?"),
    "a wrong value": (["run", "train.epochs=many"], "train.epochs"),
    "a field as an option": (["run", "--epochs", "2"], "without dashes: train.epochs=2"),
    "a dotted field as an option": (["run", "--train.epochs=2"], "train.epochs=2"),
    "an option of other programs": (["params", "--lora-r=8"], "method.rank=8"),
    "a field of a study as an option": (["study", "--seeds", "3"], "seeds=3"),
    "a colon in place of =": (["run", "train.epochs:2"], "write train.epochs=2"),
    "spaces around =": (["run", "train.epochs", "=", "2"], "write train.epochs=2"),
    "a task without its option": (["run", "sst5"], "write --task sst5"),
    "a method without its option": (["estimate", "lora"], "write --method lora"),
    "a model without its option": (["params", "gpt2"], "write --model gpt2"),
    "no space after a colon": (
        ["run", "task.samples={train:600}"],
        "a space is missing after a colon: write {train: 600}",
    ),
    "a stop string that is empty": (
        ["generate", "TINY", "--prompt", "a", "--stop", ""],
        "stop: an empty string",
    ),
    "a word without a value": (["params", "method.rank="], "method.rank"),
    "an unknown method": (["run", "--method", "lra"], "did you mean 'lora'?"),
    "an unknown task": (["run", "--task", "imbd"], "did you mean 'imdb'?"),
    "an unknown model": (["params", "--model", "gpt3"], "did you mean 'gpt2'?"),
    "a missing configuration": (["run", "none.yaml"], "none.yaml: no such file"),
    "two configurations": (["run", "one.yaml", "two.yaml"], "'two.yaml'"),
    "a folder that is no model": (["params", "--model", "."], "config.json"),
    "a missing data folder": (
        ["run", "--model", "TINY", "--task", "sick", "--data", "none"],
        "--data none: no such folder",
    ),
    "a dry run of a missing data folder": (
        ["run", "--model", "TINY", "--task", "sick", "--data", "none", "--dry-run"],
        "--data none: no such folder",
    ),
    "a missing split": (
        ["run", "--model", "TINY", "--task", "sick", "--data", "DATA"],
        "sick: no file for the test split",
    ),
    "an unknown nested field": (
        ["run", "--task", "sonnets", "task.decoding.temprature=1"],
        "did you mean 'temperature'?",
    ),
    "samples of an unknown split": (["run", "task.samples={dev: 8}"], "unknown split 'dev'"),
    "no samples": (["run", "task.samples=0"], "task.samples: at least one row"),
    "a template without a column": (
        ["run", "--task", "mrpc", "task.template=Same?"],
        "task.template: names no column",
    ),
    "a template with a column that is not there": (
        ["run", "--model", "TINY", "--task", "sst5", "--data", "DATA", "task.template='{title}'"],
        "train.jsonl:1: no column 'title'; the row has: text, label",
    ),
    "a template without quotes": (
        ["run", "--task", "mrpc", "task.template={sentence1}"],
        "task.template: YAML reads its braces; put it in quotes",
    ),
    "two answers that are the same": (
        ["run", "--task", "mrpc", "task.verbalizers={0: ' no', 1: no}"],
        "task.verbalizers: two are the same",
    ),
    "labels that only rows could tell": (
        ["params", "--model", "gpt2", "task={kind: classification, path: a.csv}"],
        "task.labels",
    ),
    "a folder in use": (
        ["run", "--model", "TINY", "--task", "sst5", "--data", "DATA", "--out", "DATA"],
        "holds something already",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(
    tunewise: Tunewise, model_folder: Path, data: Path, mistake: str
) -> None:
    arguments, named = MISTAKES[mistake]
    places = {"TINY": str(model_folder), "DATA": str(data)}
    answer = tunewise(*(places.get(word, word) for word in arguments))
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert named in answer.err
    assert answer.out == ""


def test_a_broken_row_is_named_with_its_line(
    tunewise: Tunewise, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nfine,1\nbroken\n")
    words = ("task.kind=classification", "task.path=rows.csv")
    answer = tunewise("run", "--model", model_folder, *words)
    assert answer.code == 2
    assert "rows.csv:3: " in answer.err
    assert answer.err.count("\n") == 1


def test_an_interrupted_command_ends_with_130(
    tunewise: Tunewise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunewise.config.make_config", interrupted)
    answer = tunewise("run")
    assert (answer.code, answer.err) == (130, "interrupted\n")


@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["report", "x"],
        ["export", "x", "--format", "hf", "--out", "y"],
        ["predict", "x", "--input", "a", "--output", "b"],
    ],
)
def test_a_terminated_command_ends_with_143(
    command: list[str], tunewise: Tunewise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    for place in (
        "config.make_config",
        "reports.report.write_report",
        "interop.export",
        "predict_file.predict_file",
    ):
        monkeypatch.setattr(f"tunewise.{place}", terminated)
    before = signal.getsignal(signal.SIGTERM)
    try:
        answer = tunewise(*command)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (answer.code, answer.err) == (143, "interrupted\n")


# The same through a process of its own, which costs seconds: a few.


def test_a_real_process_ends_with_code_2_and_one_line_without_a_traceback() -> None:
    answer = real_process("run", "train.epoch=1")
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err


def test_debug_shows_the_traceback() -> None:
    answer = real_process("run", "train.epoch=1", "--debug")
    assert answer.code != 0
    assert "Traceback" in answer.err
    assert "epochs" in answer.err


def test_help_comes_at_once_and_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'sklearn', 'transformers', 'huggingface_hub', 'tokenizers'}"
    program = f"import sys, tunewise.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    before = processor_seconds_of_children()
    assert real_process("--help").code == 0
    assert processor_seconds_of_children() - before < 0.5


def processor_seconds_of_children() -> float:
    """Return how long processes that have ended have computed; a busy machine does not matter."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


OUT_OF_MEMORY = [
    MemoryError(),
    RuntimeError("unable to mmap 11844920 bytes from file <m>: Cannot allocate memory (12)"),
    RuntimeError("could not create a primitive"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 6291456 bytes"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_memory_that_is_used_up_is_one_line_with_advice(
    tunewise: Tunewise, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tunewise.config.make_config", fail)
    answer = tunewise("run")
    assert answer.code == 2
    assert answer.err.startswith("error: out of memory; ")
    assert answer.err.count("\n") == 1
    assert "train.checkpointing=true" in answer.err


def test_a_run_in_too_little_memory_ends_in_one_line(tmp_path: Path) -> None:
    answer = real_process("run", "--out", str(tmp_path / "run"), max_bytes=1_000 * 2**20)
    assert answer.code == 2
    assert "error: out of memory; " in answer.err
    assert "Traceback" not in answer.err
