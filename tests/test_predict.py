"""What a run has learnt is put to use: on rows without answers, on prompts, from Python."""

import gzip
import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TASK_SETTINGS

import tunewise as tw
from tunewise import predict
from tunewise.cli import main as cli
from tunewise.config import make_config, write_yaml
from tunewise.data.rows import Row, read_rows, stream_rows
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, TunewiseError
from tunewise.evaluation.answers import NewAnswers
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate, stream
from tunewise.generation.stop import text_of
from tunewise.models.folder import find_folder, load_model
from tunewise.predict_file import predict_file
from tunewise.run import run
from tunewise.runs.folder import CONFIG_FILE, PREDICTIONS_FILE, read_predictions
from tunewise.tasks import TASKS

pytestmark = pytest.mark.slow

ANSWERED = [kind for kind in TASKS if kind != "language_modeling"]
Trained = Callable[..., Path]


@pytest.fixture(autouse=True)
def on_the_processor(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewise.predict.choose_device", lambda: torch.device("cpu"))


@pytest.fixture
def trained(model_folder: Path, rows: Path, tmp_path: Path) -> Trained:
    def train(task: str, method: str = "lora") -> Path:
        values = {
            "model": str(model_folder),
            "task": {"kind": task, "path": str(rows)} | TASK_SETTINGS.get(task, {}),
            "method": method,
            "train": {"epochs": 2, "batch_size": 5, "learning_rate": 0.01, "precision": "fp32"},
        }
        return run(make_config(fields=values), out=tmp_path / "run").folder

    return train


@pytest.fixture
def questions(rows: Path, tmp_path: Path) -> Path:
    """The test rows without their answers."""
    path = tmp_path / "test.jsonl"
    given = [
        {name: value for name, value in row.values.items() if name not in ("label", "output")}
        for row in read_rows(rows / "test.jsonl")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("method", ["lora", "soft_prompt", "full"])
@pytest.mark.parametrize("task", ANSWERED)
def test_rows_without_answers_get_what_the_run_predicted_for_them(
    task: str, method: str, trained: Trained, questions: Path, tmp_path: Path
) -> None:
    folder = trained(task, method)
    output = tmp_path / "answers.jsonl"
    assert predict_file(folder, questions, output) == 12
    found = lines_of(output)
    expected = read_predictions(folder / PREDICTIONS_FILE)
    assert [line["id"] for line in found] == [p.id for p in expected]
    assert [line["row"] for line in found] == list(range(12)) == [p.row for p in expected]
    for number, (line, prediction) in enumerate(zip(found, expected, strict=True)):
        if task in ("classification", "cloze"):
            assert line.keys() == {"id", "row", "predicted", "probabilities"}
            assert line["predicted"] == prediction.predicted
            log_p = torch.tensor(line["probabilities"][prediction.expected]).log().item()
            assert log_p == pytest.approx(prediction.log_likelihood, abs=1e-4)
            assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
            assert line["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-5)
        else:
            assert line == {"id": prediction.id, "row": number, "predicted": prediction.predicted}


@pytest.mark.parametrize("task", ["classification", "cloze", "instruction"])
def test_the_answers_do_not_depend_on_how_rows_are_read(
    task: str, trained: Trained, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = tw.load(trained(task))
    rows = [row.values for row in read_rows(questions)]
    whole = predictor.predict(rows)
    monkeypatch.setattr(predict, "MAX_ROWS", 5)
    for one, other in zip(predictor.predict(rows), whole, strict=True):
        assert one["id"] == other["id"]
        assert one["predicted"] == other["predicted"]
        assert one.get("probabilities") == pytest.approx(other.get("probabilities"), abs=1e-5)
    monkeypatch.setattr(predict, "MAX_CHARACTERS", 1)
    assert [answer["id"] for answer in predictor.predict(rows)] == [a["id"] for a in whole]
    assert [answer["id"] for answer in whole] == [f"rows:{n}" for n in range(1, 13)]


def test_what_is_drawn_for_equal_rows_differs(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = tw.load(trained("generation"))
    for rows_at_once in (8, 1):
        monkeypatch.setattr(predict, "MAX_ROWS", rows_at_once)
        answers = predictor.predict([{"instruction": "1"}] * 8)
        assert len({answer["predicted"] for answer in answers}) > 4


def test_memory_does_not_grow_with_the_number_of_rows(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = tw.load(trained("classification"))
    # What is measured is what we hold of rows and answers, not what the model computes.
    monkeypatch.setattr(
        predict.Predictor,
        "_answer",
        lambda self, examples, seed: NewAnswers([{"id": example.id} for example in examples], 0),
    )

    def peak(count: int) -> int:
        path = tmp_path / "rows.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps({"text": f"{n} " * 20}) + "\n" for n in range(count))
        tracemalloc.start()
        assert sum(1 for _ in predictor.answers(stream_rows(path))) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(20_000) < 1.2 * peak(2_000)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "csv", "tsv", "json"])
def test_every_kind_of_file_is_read_alike(form: str, tmp_path: Path) -> None:
    texts = ["a film", "naïve, \u2028 and more", "last"]
    path = tmp_path / f"rows.{form}"
    if form.startswith("jsonl"):
        content = "\ufeff" + "\n\n".join(json.dumps({"text": t}, ensure_ascii=False) for t in texts)
        encoded = content.encode()
        path.write_bytes(gzip.compress(encoded) if form.endswith("gz") else encoded)
    elif form == "json":
        path.write_text(json.dumps([{"text": t} for t in texts]))
    else:
        path.write_text("text\n" + "".join(f'"{t}"\n' for t in texts), "utf-8")
    assert list(stream_rows(path)) == read_rows(path)
    assert [row.text("text") for row in stream_rows(path)] == texts


def test_conversations_may_end_with_what_the_user_asks() -> None:
    task = TASKS["instruction"]()
    asked = [{"role": "user", "content": "Why?"}]
    answered = [*asked, {"role": "assistant", "content": "So."}]
    one, other = (task.prompt_of(Row({"messages": turns}, "r:1")) for turns in (asked, answered))
    assert one == other
    assert one.prompt + one.cue == "### Instruction:\nWhy?\n\n### Response:\n"
    with pytest.raises(TunewiseError, match="r:1: no message"):
        task.prompt_of(Row({"messages": answered[1:]}, "r:1"))


# Writing.

DECODINGS = [
    {"max_new_tokens": 12},
    {"max_new_tokens": 12, "temperature": 1.0, "top_k": 30, "top_p": 0.9},
    {"max_new_tokens": 12, "num_beams": 3},
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
@pytest.mark.parametrize("name", ["pocket", "random"])
def test_a_stream_is_what_is_written_at_once(
    name: str, decoding: dict[str, Any], model_folder: Path
) -> None:
    # One writes words; the other bytes, most of which are no whole character.
    folder = find_folder("pocket") if name == "pocket" else model_folder
    model, tokenizer = load_model(folder).eval(), Tokenizer.load(folder)
    (prompt,) = tokenizer.tokenize(["a good"])
    whole = DecodingConfig(**decoding)
    text = text_of(generate(model, [prompt], tokenizer, whole)[0], tokenizer, whole)
    assert len(text) > 3
    for stop in ((), (text[2:4],), (text[2:12],), (text[1:4], text[-1]), ("nowhere in it",)):
        config = DecodingConfig(**decoding, stop=stop)
        (ids,) = generate(model, [prompt], tokenizer, config)
        pieces = list(stream(model, prompt, tokenizer, config))
        assert "".join(pieces) == text_of(ids, tokenizer, config), stop
        assert all(pieces)


def test_a_stream_comes_piece_by_piece(model_folder: Path) -> None:
    predictor = tw.load(model_folder)
    pieces: Iterator[str] = predictor.stream("a good", max_new_tokens=12, temperature=1.0)
    first = next(pieces)
    assert 0 < len(first) < 5
    rest = list(pieces)
    assert len(rest) > 1
    assert first + "".join(rest) == predictor.generate("a good", max_new_tokens=12, temperature=1.0)


def test_writing_ends_with_any_token_that_ends_a_text(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    model, tokenizer = load_model(folder).eval(), Tokenizer.load(folder)
    (prompt,) = tokenizer.tokenize(["a good"])
    for decoding in (
        DecodingConfig(max_new_tokens=9),
        DecodingConfig(max_new_tokens=9, num_beams=2),
    ):
        (whole,) = generate(model, [prompt], tokenizer, decoding)
        assert len(whole) == 9
        ends = {"eos_token_id": [tokenizer.end_of_text, whole[4]]}
        (folder / "generation_config.json").write_text(json.dumps(ends))
        (cut,) = generate(model, [prompt], Tokenizer.load(folder), decoding)
        assert whole[4] not in cut
        if decoding.num_beams == 1:
            assert cut == whole[: whole.index(whole[4])]


def test_a_run_writes_with_its_own_decoding_and_prompt(trained: Trained) -> None:
    folder = trained("instruction", "soft_prompt")
    predictor = tw.load(folder)
    assert predictor.config.method.num_virtual_ids == 12
    for prediction in read_predictions(folder / PREDICTIONS_FILE):
        assert predictor.generate(prediction.prompt).strip() == prediction.predicted


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_that_has_not_finished_answers_nothing(method: str, tmp_path: Path) -> None:
    write_yaml(make_config(fields={"method": method}), tmp_path / CONFIG_FILE)
    with pytest.raises(ConfigError, match=f"not finished; tunewise run --out {tmp_path} --resume"):
        tw.load(tmp_path)


def test_what_cannot_write_says_so(trained: Trained) -> None:
    predictor = tw.load(trained("classification"))
    with pytest.raises(TunewiseError, match="use predict"):
        predictor.generate("a")


def test_settings_that_are_wrong_are_named(model_folder: Path) -> None:
    predictor = tw.load(model_folder)
    with pytest.raises(TunewiseError, match=r"generate: top_p.*1.5"):
        predictor.generate("a", top_p=1.5)
    with pytest.raises(TunewiseError, match="60 tokens"):
        predictor.generate("a" * 60)


# The commands.


def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str | Path
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tunewise", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    code = caught.value.code
    return code if isinstance(code, int) else 0, *capfd.readouterr()


def test_predict_prints_or_writes_the_same_lines(
    trained: Trained,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, output = trained("cloze"), tmp_path / "answers.jsonl"
    capfd.readouterr()
    words = ("predict", folder, "--input", questions, "--output")
    code, printed, _ = command(monkeypatch, capfd, *words, "-")
    assert code == 0
    assert command(monkeypatch, capfd, *words, output)[0] == 0
    assert output.read_text("utf-8") == printed
    code, _, error = command(monkeypatch, capfd, *words, output)
    assert code == 2
    assert error.startswith("error: --output") and error.count("\n") == 1


def test_generate_takes_a_prompt_or_lines(
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tokenizer: Tokenizer,
) -> None:
    words = ("generate", model_folder, "--max-new-tokens", "3", "--temperature", "0.5")
    code, out, _ = command(monkeypatch, capfd, *words, "--top-k", "40", "--prompt", "a good")
    assert code == 0
    predictor = tw.load(model_folder)
    settings = {"max_new_tokens": 3, "temperature": 0.5, "top_k": 40}
    assert out == predictor.generate("a good", **settings) + "\n"
    lines = iter(["a good", "bad"])

    def typed(_: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    code, out, _ = command(monkeypatch, capfd, *words, "--top-k", "40")
    assert code == 0
    expected = [predictor.generate(prompt, **settings) for prompt in ("a good", "bad")]
    assert out == "".join(text + "\n" for text in expected)


def test_importing_tunewise_imports_no_torch() -> None:
    code = "import sys, tunewise, tunewise.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
