"""A file of rows is checked before it is answered, and a stop costs what was not answered yet."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TASK_SETTINGS, add_noise

import tunewise as tw
from tunewise import predict as predict_module
from tunewise import predict_file as file_module
from tunewise.config import make_config, write_yaml
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, DataError, ModelError, NotFiniteError, TunewiseError
from tunewise.evaluation.answers import NewAnswers
from tunewise.predict import Predictor
from tunewise.predict_file import predict_file
from tunewise.runs.folder import CONFIG_FILE
from tunewise.runs.model import adapted_model, save_trained

MakeRun = Callable[..., Path]
SAMPLED = "generation"
"""A task whose answers depend on the place of a row, since tokens are sampled."""
LABELS = {"0": "bad", "1": "good", "a b": "é", "x": "1", "y": "no label"}


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewise.predict.choose_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(predict_module, "MAX_ROWS", 4)


@pytest.fixture
def run_of(model_folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> MakeRun:
    """Return a function that makes the folder of a run, with weights that nothing has trained."""

    def make(task: str = "classification", spoil: float | None = None, **fields: Any) -> Path:
        own = {"labels": {"0": "bad", "1": "good"}} if task == "classification" else {}
        settings = {"kind": task} | own | TASK_SETTINGS.get(task, {}) | fields
        config = make_config(
            fields={"model": str(model_folder), "task": settings, "train": {"precision": "fp32"}}
        )
        model = adapted_model(config, model_folder, tokenizer)
        add_noise((parameter for _, parameter in model.trainable()), 0.3, 1)
        if spoil is not None:
            for _, parameter in model.trainable():
                parameter.data.fill_(spoil)
        folder = tmp_path / f"run {task}"
        folder.mkdir()
        write_yaml(config, folder / CONFIG_FILE)
        save_trained(model, config, folder, tokenizer)
        return folder

    return make


def row_of(number: int) -> dict[str, str]:
    return {"text": f"row {number}", "instruction": f"row {number}"}


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows as JSON lines; bytes are a whole line as it is."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def answers_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def left_of(output: Path) -> list[str]:
    """Return the names of the output and of what a command leaves beside it."""
    return sorted(path.name for path in output.parent.iterdir() if path.name.startswith("answers"))


BAD = {
    "no JSON": (b'{"text": ', "not valid JSON"),
    "no object": (b"[1]", "not a JSON object"),
    "no column": ({"texts": "a"}, "no column 'text'"),
    "a number": ({"text": 3}, "text is needed"),
    "half a character": (b'{"text": "\\ud800"}', "half a character"),
}
"""Rows that cannot be used, and why."""


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", [0, 9, 19])
def test_a_bad_row_anywhere_is_told_before_the_model_is_read(
    name: str, place: int, run_of: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, reason = BAD[name]
    rows: list[Any] = [row_of(number) for number in range(20)]
    rows[place] = bad
    source, output = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "answers.jsonl"
    folder = run_of()
    monkeypatch.setattr(file_module, "load", lambda _: pytest.fail("the model was read"))
    with pytest.raises(DataError) as caught:
        predict_file(folder, source, output)
    message = str(caught.value)
    assert message.startswith(f"1 of 20 rows cannot be used: {source}:{place + 1}: ")
    assert reason in message
    assert message.endswith("leave them out with --bad-rows drop")
    assert left_of(output) == []


@pytest.mark.parametrize("form", ["jsonl", "csv", "json"])
@pytest.mark.parametrize("num_bad", [2, 5, 6, 30])
def test_of_many_bad_rows_the_first_are_named_and_the_others_counted(
    num_bad: int, form: str, run_of: MakeRun, tmp_path: Path
) -> None:
    source, output = tmp_path / f"rows.{form}", tmp_path / "answers.jsonl"
    if form == "csv":
        lines = ["text", *(f"row {n}" for n in range(5)), *["a,b"] * num_bad]
        source.write_text("\n".join(lines) + "\n")
    else:
        rows = [*(row_of(n) for n in range(5)), *[{"text": 1}] * num_bad]
        if form == "json":
            source.write_text(json.dumps(rows))
        else:
            write_rows(source, rows)
    with pytest.raises(DataError) as caught:
        predict_file(run_of(), source, output)
    message = str(caught.value)
    first = 7 if form == "csv" else 6  # its header is a line
    named = [f"{source}:{first + number}" for number in range(min(num_bad, 5))]
    assert message.startswith(f"{num_bad} of {num_bad + 5} rows cannot be used; the first: ")
    assert [place for place in named if place in message] == named
    assert message.count(str(source)) == len(named)
    assert ("and 25 more" in message) == (num_bad == 30)
    assert ("more" in message) == (num_bad > 5)


@pytest.mark.parametrize("task", ["classification", "cloze", SAMPLED])
def test_rows_that_are_left_out_change_no_answer(
    task: str, run_of: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, output = run_of(task), tmp_path / "answers.jsonl"
    good = [row_of(number) for number in range(11)]
    mixed: list[Any] = [*good]
    for place, (bad, _) in zip((0, 3, 3, 8, 14), list(BAD.values()), strict=False):
        mixed.insert(place, bad)
    assert predict_file(folder, write_rows(tmp_path / "rows.jsonl", mixed), output, "drop") == 11
    (told,) = (text for text in caplog.messages if "left out" in text)
    assert told.startswith("5 of 16 rows cannot be used; the first: ")
    alone = tmp_path / "answers without.jsonl"
    predict_file(folder, write_rows(tmp_path / "good.jsonl", good), alone)
    found, expected = answers_of(output), answers_of(alone)
    places = [number for number, row in enumerate(mixed, start=1) if row in good]
    assert [answer.pop("id") for answer in found] == [f"rows.jsonl:{n}" for n in places]
    assert [answer.pop("row") for answer in found] == [n - 1 for n in places]
    assert [answer.pop("id") for answer in expected] == [f"good.jsonl:{n}" for n in range(1, 12)]
    assert [answer.pop("row") for answer in expected] == list(range(11))
    assert found == expected


@pytest.mark.parametrize("bad_rows", ["stop", "drop"])
def test_if_no_row_can_be_used_nothing_is_written(
    bad_rows: Any, run_of: MakeRun, tmp_path: Path
) -> None:
    source, output = write_rows(tmp_path / "rows.jsonl", [{"txt": "a"}] * 3), tmp_path / "answers"
    match = r"3 of 3 rows cannot be used; the first: .* 'text'"
    with pytest.raises(DataError, match=match) as caught:
        predict_file(run_of(), source, output, bad_rows)
    assert "--bad-rows" not in str(caught.value)  # nothing would be left
    assert left_of(output) == []


def test_rows_from_python_are_checked_before_any_is_answered(
    run_of: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = tw.load(run_of())
    monkeypatch.setattr(Predictor, "_answer", lambda *_: pytest.fail("a row was answered"))
    rows = [row_of(1), {"txt": "a"}, row_of(2), {"text": 2}]
    with pytest.raises(DataError) as caught:
        predictor.predict(rows)
    assert str(caught.value).startswith("2 of 4 rows cannot be used; the first: rows:2: no column")
    assert str(caught.value).endswith("; then rows:4")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[Sequence[Any]], Path]]:
    """Return a function that sends rows through a pipe, which can be read once."""
    threads: list[threading.Thread] = []

    def send(rows: Sequence[Any]) -> Path:
        path = tmp_path / f"pipe{len(threads)}.jsonl"
        os.mkfifo(path)
        thread = threading.Thread(target=write_rows, args=(path, rows))
        threads.append(thread)
        thread.start()
        return path

    yield send
    for thread in threads:
        thread.join(10)


def test_rows_of_a_pipe_are_checked_as_they_come(
    run_of: MakeRun, pipe: Callable[[Sequence[Any]], Path], tmp_path: Path
) -> None:
    folder, output = run_of(), tmp_path / "answers.jsonl"
    rows: list[Any] = [row_of(number) for number in range(10)]
    assert predict_file(folder, pipe(rows), output) == 10
    rows[7] = {"text": 3}
    with pytest.raises(DataError, match=r"pipe1\.jsonl:8: .*text is needed"):
        predict_file(folder, pipe(rows), tmp_path / "answers 2.jsonl")
    assert left_of(output) == ["answers.jsonl"]
    assert predict_file(folder, pipe(rows), tmp_path / "answers 3.jsonl", "drop") == 9


def test_a_row_without_a_text_is_answered_as_the_empty_text_and_named(
    run_of: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[Any] = [row_of(number) for number in range(9)]
    rows[2], rows[5], rows[6] = {"text": None}, {"text": ""}, {"text": " \n"}
    source = write_rows(tmp_path / "rows.jsonl", rows)
    assert predict_file(run_of(), source, tmp_path / "answers.jsonl") == 9
    places = ", ".join(f"rows.jsonl:{line}" for line in (3, 6, 7))
    assert f"3 of 9 rows have an empty text: {places}" in caplog.messages


def test_nothing_is_overwritten_and_a_task_without_answers_is_refused(
    run_of: MakeRun, tmp_path: Path
) -> None:
    folder, output = run_of("language_modeling"), tmp_path / "answers.jsonl"
    source = write_rows(tmp_path / "rows.jsonl", [row_of(1)])
    with pytest.raises(ConfigError, match="language_modeling, which answers nothing"):
        predict_file(folder, source, output)
    output.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        predict_file(folder, source, output)
    assert output.read_text() == "mine"
    with pytest.raises(ConfigError, match="there is no folder"):
        predict_file(folder, source, tmp_path / "gone" / "answers.jsonl")


# NaN is found when the weights are read, and what overflows only in the outputs.
@pytest.mark.parametrize(
    ("value", "error"), [(torch.nan, ModelError), (3e38, NotFiniteError)], ids=["nan", "huge"]
)
@pytest.mark.parametrize("task", ["classification", "cloze", SAMPLED, "instruction"])
def test_a_run_whose_outputs_are_not_finite_answers_nothing(
    task: str,
    value: float,
    error: type[TunewiseError],
    run_of: MakeRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, output = run_of(task, spoil=value), tmp_path / "answers.jsonl"
    source = write_rows(tmp_path / "rows.jsonl", [row_of(number) for number in range(6)])
    with pytest.raises(error, match=r"outputs are not finite|holds NaN or infinity"):
        predict_file(folder, source, output)
    assert left_of(output) == []
    with pytest.raises(error):
        predict_file(folder, source, None)
    assert capsys.readouterr().out == ""
    with pytest.raises(error):
        tw.load(folder).predict([row_of(1)])


def test_every_label_has_its_probability(run_of: MakeRun, tmp_path: Path) -> None:
    folder, output = run_of(labels=LABELS), tmp_path / "answers.jsonl"
    predict_file(folder, write_rows(tmp_path / "rows.jsonl", [row_of(1), row_of(2)]), output)
    for answer in answers_of(output):
        assert list(answer["probabilities"]) == list(LABELS.values())
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert answer["probabilities"][answer["predicted"]] == max(answer["probabilities"].values())


# Going on after a stop.


class StopAfter:
    """Stops the command after so many chunks of rows, as Ctrl-C does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chunks: int) -> None:
        plain, self.left, self.rows = Predictor._answer, chunks, 0

        def answer(predictor: Predictor, examples: Any, seed: int) -> NewAnswers:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.rows += len(examples)
            return plain(predictor, examples, seed)

        monkeypatch.setattr(Predictor, "_answer", answer)


@pytest.mark.parametrize(("chunks", "lost"), [(0, 0), (1, 0), (3, 1), (3, 200), (4, 30)])
@pytest.mark.parametrize("task", ["classification", SAMPLED])
def test_stopped_and_repeated_is_the_same_as_never_stopped(
    task: str,
    chunks: int,
    lost: int,
    run_of: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows: list[Any] = [row_of(number) for number in range(18)]
    rows[5] = {"text": 3}
    source, folder = write_rows(tmp_path / "rows.jsonl", rows), run_of(task)
    whole, output = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    assert predict_file(folder, source, whole, "drop") == 17
    with monkeypatch.context() as patch:
        StopAfter(patch, chunks)
        with pytest.raises(KeyboardInterrupt):
            predict_file(folder, source, output, "drop")
    part = tmp_path / "answers.jsonl.part"
    assert (
        f"{part} has what was answered, as JSON lines; the same command goes on from there"
        in caplog.messages
    )
    content = part.read_bytes()
    assert whole.read_bytes().startswith(content)
    part.write_bytes(content[: max(0, len(content) - lost)])  # as a killed process leaves it
    num_left = part.read_bytes().count(b"\n")
    with monkeypatch.context() as patch:
        counter = StopAfter(patch, 99)
        assert predict_file(folder, source, output, "drop") == 17
    assert output.read_bytes() == whole.read_bytes()
    assert counter.rows == 17 - num_left // 4 * 4
    assert left_of(output) == ["answers.jsonl"]


@pytest.mark.parametrize("changed", ["rows", "run", "bad_rows", "name"])
def test_what_something_else_has_answered_is_not_used(
    changed: str, run_of: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [row_of(number) for number in range(9)])
    folder, output, bad_rows = run_of(), tmp_path / "answers.jsonl", "stop"
    with monkeypatch.context() as patch:
        StopAfter(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            predict_file(folder, source, output)
    if changed == "rows":
        write_rows(source, [row_of(number + (number == 8)) for number in range(9)])
    elif changed == "name":
        source = source.rename(tmp_path / "others.jsonl")
    elif changed == "run":
        path = next(folder.rglob("adapter.safetensors"))
        content = bytearray(path.read_bytes())
        content[-2] ^= 1  # in the last weight
        path.write_bytes(content)
    else:
        bad_rows = "drop"
    expected = tmp_path / "expected.jsonl"
    predict_file(folder, source, expected, bad_rows)  # type: ignore[arg-type]
    counter = StopAfter(monkeypatch, 99)
    predict_file(folder, source, output, bad_rows)  # type: ignore[arg-type]
    assert counter.rows == 9
    assert output.read_bytes() == expected.read_bytes()


def test_two_commands_do_not_write_one_output(run_of: MakeRun, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [row_of(number) for number in range(9)])
    folder, output = run_of(), tmp_path / "answers.jsonl"
    with file_module._continued(output, "key") as (file, _):
        file.write('{"id": "1"}\n')
        with pytest.raises(ConfigError, match="in use by another process"):
            predict_file(folder, source, output)
        assert left_of(output) == ["answers.jsonl.part", "answers.jsonl.part.key"]
    assert answers_of(output) == [{"id": "1"}]
