"""The commands do what they say, and a mistake costs one line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tokenizers import models, pre_tokenizers

from tunewise.cli import main as cli
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer, byte_level
from tunewise.methods import METHODS
from tunewise.metrics import METRICS
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import build_model, save_model
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.language_model import initialise
from tunewise.tasks.named import task_names


class Answer(NamedTuple):
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


Tunewise = Callable[..., Answer]


@pytest.fixture
def tunewise(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Tunewise:
    """Return a function that runs a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEWISE_DATA", raising=False)
    monkeypatch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 5)

    def command(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tunewise", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        out, err = capfd.readouterr()
        return Answer(code if isinstance(code, int) else 0, out, err)

    return command


def real_process(*arguments: str) -> Answer:
    """Run `python -m tunewise` as a user does."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tunewise", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `tiny`, a model, and `data`: rows of sst5, and some of sick."""
    folder = tmp_path_factory.mktemp("files")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = byte_level(
        models.BPE({token: n for n, token in enumerate([END_OF_TEXT, *alphabet])}, [])
    )
    backend.add_special_tokens([END_OF_TEXT])
    tokenizer = Tokenizer(backend)
    shape = GPT2Config(
        vocabulary_size=257, context_length=32, model_dim=16, num_heads=2, num_layers=2, mlp_dim=32
    )
    model = build_model(shape, "cpu")
    initialise(model, torch.Generator().manual_seed(0))
    save_model(model, folder / "tiny", tokenizer.end_of_text)
    tokenizer.save(folder / "tiny")
    (folder / "data" / "sst5").mkdir(parents=True)
    for split in SPLITS:
        lines = (json.dumps({"text": f"{split} {n}", "label": n % 5}) for n in range(10))
        (folder / "data" / "sst5" / f"{split}.jsonl").write_text("\n".join(lines))
    (folder / "data" / "sick").mkdir()
    for split in ("train", "validation"):
        (folder / "data" / "sick" / f"{split}.jsonl").write_text('{"premise": "a"}')
    return folder


def run_words(files: Path, out: Path | str = "out") -> list[str | Path]:
    words = ["run", "--model", files / "tiny", "--task", "sst5", "--data", files / "data"]
    return [*words, "--out", out, "train.epochs=1", "method.rank=2"]


# What goes well.


def test_a_run_prints_its_result_and_leaves_it(
    tunewise: Tunewise, files: Path, tmp_path: Path
) -> None:
    answer = tunewise(*run_words(files))
    assert answer.code == 0, answer.err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["config"]["method"]["rank"] == 2
    for metric, value in result["metrics"]["test"].items():
        assert f"test {metric}" in answer.out
        assert f"{value:.4f}" in answer.out
    assert str(Path("out") / "result.json") in answer.out


def test_the_data_folder_can_be_set_once_for_all(
    tunewise: Tunewise, files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [word for word in run_words(files) if word not in ("--data", files / "data")]
    assert "--data" in tunewise(*words).err
    monkeypatch.setenv("TUNEWISE_DATA", str(files / "data"))
    assert tunewise(*words).code == 0
    assert (tmp_path / "out" / "result.json").is_file()


def test_a_finished_run_is_repeated_from_its_configuration(
    tunewise: Tunewise, files: Path, tmp_path: Path
) -> None:
    tunewise(*run_words(files, "one"))
    answer = tunewise("run", "one/config.yaml", "--data", files / "data", "--out", "two")
    assert answer.code == 0, answer.err
    one, two = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")
    )
    assert one["metrics"] == two["metrics"]
    assert one["config"] == two["config"]


KNOWN: dict[str, list[str]] = {
    "models": list(KNOWN_MODELS),
    "tasks": task_names(),
    "methods": list(METHODS),
    "metrics": list(METRICS),
}


@pytest.mark.parametrize("what", KNOWN)
def test_everything_known_is_listed_one_to_a_line(tunewise: Tunewise, what: str) -> None:
    answer = tunewise("list", what)
    assert answer.code == 0
    firsts = [line.split()[0] for line in answer.out.splitlines() if line.strip()]
    for name in KNOWN[what]:
        assert firsts.count(name) == 1, name


@pytest.mark.parametrize("what", KNOWN)
def test_a_list_can_be_had_as_json(tunewise: Tunewise, what: str) -> None:
    rows = json.loads(tunewise("list", what, "--json").out)
    column = what.removesuffix("s")
    assert [row[column] for row in rows][: len(KNOWN[what])] == KNOWN[what]
    assert all(row.keys() == rows[0].keys() for row in rows)


def counts(tunewise: Tunewise, *words: str | Path) -> dict[str, Any]:
    answer = tunewise("params", *words, "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_params_counts_without_reading_weights(tunewise: Tunewise) -> None:
    # GPT-2: V·D + T·D + 12 · (12·D² + 13·D) + 2·D with D = 768; two factors of rank 8 per layer
    total = (50257 + 1024) * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    found = counts(tunewise, "--model", "gpt2", "--method", "full")
    assert (found["total"], found["trainable"], found["percent"]) == (total, total, 100.0)
    lora = 12 * 8 * (2 * 768)
    found = counts(tunewise, "--model", "gpt2", "method.targets=[query]")
    assert (found["total"], found["trainable"]) == (total + lora, lora)
    assert found["percent"] == pytest.approx(100 * lora / (total + lora))


@pytest.mark.parametrize("kind", METHODS)
def test_params_agrees_with_what_a_run_counts(
    tunewise: Tunewise, files: Path, tmp_path: Path, kind: str
) -> None:
    words = [word for word in run_words(files) if word != "method.rank=2"]
    assert tunewise(*words, "--method", kind).code == 0
    ran = json.loads((tmp_path / "out" / "result.json").read_text())["parameters"]
    model = ("--model", files / "tiny", "--task", "sst5", "--method", kind)
    assert counts(tunewise, *model) == ran


def test_params_without_json_shows_the_same_numbers(tunewise: Tunewise, files: Path) -> None:
    found = counts(tunewise, "--model", files / "tiny")
    shown = tunewise("params", "--model", files / "tiny").out
    assert f"{found['total']:,}" in shown
    assert f"{found['trainable']:,}" in shown


def test_the_list_of_tasks_counts_the_rows_that_are_in_the_data_folder(
    tunewise: Tunewise, files: Path
) -> None:
    sizes = "train / validation / test"
    for data, sst5 in (
        (["--data", files / "data"], "10 / 10 / 10"),
        ([], "on the hub: SetFit/sst5"),
    ):
        rows = {
            row["task"]: row for row in json.loads(tunewise("list", "tasks", *data, "--json").out)
        }
        assert rows["sst5"][sizes] == sst5
        assert rows["pocket_reviews"][sizes] == "2,000 / 500 / 500"
        sick = "no file for the test split" if data else "not in the data folder"
        assert sick in rows["sick"][sizes]
        assert rows["imdb"][sizes] == "on the hub: stanfordnlp/imdb"
        assert rows["mrpc"]["columns"] == "sentence1, sentence2, label"


def test_single_fields_of_a_task_are_set_by_words(
    tunewise: Tunewise, files: Path, tmp_path: Path
) -> None:
    words = ["task.samples={train: 8}", "task.train_size=0.5", "task.lowercase=true"]
    answer = tunewise(*run_words(files), *words)
    assert answer.code == 0, answer.err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert {split: result["data"][split]["examples"] for split in SPLITS} == {
        "train": 5,
        "validation": 5,
        "test": 10,
    }
    task = result["config"]["task"]
    assert (task["samples"], task["train_size"], task["lowercase"]) == ({"train": 8}, 0.5, True)


# A dry run.


def test_a_dry_run_shows_examples_and_lengths_and_leaves_nothing(
    tunewise: Tunewise, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("tunewise.run.run", refuse)
    answer = tunewise(*run_words(files), "--dry-run")
    assert answer.code == 0, answer.err
    for number in range(3):
        assert f"\ntrain.jsonl:{number + 1}\ntrain {number} ⟦" in answer.out
    assert "train.jsonl:4" not in answer.out
    table = [line.split() for line in answer.out.splitlines()[-4:]]
    assert table[0][:4] == ["split", "examples", "median", "95"]
    assert [line[0] for line in table[1:]] == list(SPLITS)
    assert [line[1] for line in table[1:]] == ["10"] * 3
    assert "very negative 2" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_brackets_what_is_scored_and_takes_no_text_for_markup(
    tunewise: Tunewise, files: Path, tmp_path: Path
) -> None:
    row = json.dumps({"prompt": "[bold]Say[/bold] {x} [/]:", "completion": " [red]no"})
    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").write_text(row)
    words = ("task.kind=generation", f"task.path={tmp_path}", "method=soft_prompt")
    answer = tunewise("run", "--model", files / "tiny", *words, "method.tokens=2", "--dry-run")
    assert answer.code == 0, answer.err
    assert "[2 virtual tokens][bold]Say[/" in answer.out
    assert "⟦ [red]no" in answer.out


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], []])
def test_help_names_what_there_is(tunewise: Tunewise, arguments: list[str]) -> None:
    answer = tunewise(*arguments)
    assert answer.code == 0
    expected = (
        ["--model", "--out", "--data", "--dry-run"]
        if "run" in arguments
        else ["run", "params", "list"]
    )
    assert all(word in answer.out for word in expected)


# What goes wrong: one line, exit code 2, no traceback.

MISTAKES: dict[str, tuple[list[str], str]] = {
    "an unknown command": (["rnu"], "rnu"),
    "an unknown option": (["run", "--modle", "gpt2"], "--modle"),
    "an option without its value": (["run", "--model"], "--model"),
    "a missing argument": (["list"], "models|tasks|methods|metrics"),
    "an unknown list": (["list", "model"], "did you mean 'models'?"),
    "an unknown field": (["run", "train.epoch=1"], "did you mean 'epochs'?"),
    "a wrong value": (["run", "train.epochs=many"], "train.epochs"),
    "a word without a value": (["params", "method.rank="], "method.rank"),
    "an unknown method": (["run", "--method", "lra"], "did you mean 'lora'?"),
    "an unknown task": (["run", "--task", "imbd"], "did you mean 'imdb'?"),
    "an unknown model": (["params", "--model", "gpt3"], "did you mean 'gpt2'?"),
    "a missing configuration": (["run", "none.yaml"], "none.yaml: no such file"),
    "two configurations": (["run", "one.yaml", "two.yaml"], "'two.yaml'"),
    "a folder that is no model": (["params", "--model", "."], "config.json"),
    "a missing data folder": (
        ["run", "--model", "TINY", "--task", "sick", "--data", "none"],
        "none/sick",
    ),
    "a dry run of a missing data folder": (
        ["run", "--model", "TINY", "--task", "sick", "--data", "none", "--dry-run"],
        "none/sick",
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
def test_a_mistake_is_told_in_one_line(tunewise: Tunewise, files: Path, mistake: str) -> None:
    arguments, named = MISTAKES[mistake]
    places = {"TINY": str(files / "tiny"), "DATA": str(files / "data")}
    answer = tunewise(*(places.get(word, word) for word in arguments))
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert named in answer.err
    assert answer.out == ""


def test_a_folder_in_use_is_left_as_it_was(tunewise: Tunewise, files: Path) -> None:
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    assert tunewise(*run_words(files, files / "data")).code == 2
    assert {p: p.read_bytes() for p in files.rglob("*") if p.is_file()} == before


def test_a_broken_row_is_named_with_its_line(
    tunewise: Tunewise, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nfine,1\nbroken\n")
    words = ("task.kind=classification", "task.path=rows.csv")
    answer = tunewise("run", "--model", files / "tiny", *words)
    assert answer.code == 2
    assert "rows.csv:3: " in answer.err
    assert answer.err.count("\n") == 1


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
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert real_process("--help").code == 0
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5


STUDY = """
name: ranks
base:
  model: {model}
  task: {{kind: classification, path: {rows}}}
  train: {{epochs: 1, batch_size: 5, precision: fp32}}
vary: {{method.rank: [1, 2]}}
"""


@pytest.fixture
def study_file(tmp_path: Path, model_folder: Path, rows: Path) -> Path:
    path = tmp_path / "ranks.yaml"
    path.write_text(STUDY.format(model=model_folder, rows=rows))
    return path


def test_a_study_says_what_is_planned_runs_it_and_goes_on(
    tunewise: Tunewise, study_file: Path, tmp_path: Path
) -> None:
    first = tunewise("study", study_file)
    assert first.code == 0
    assert "2 runs; 0 done, 2 to do" in first.out
    assert "1/2  rank=1, seed=0: validation accuracy " in first.out
    assert "tunewise report runs/ranks" in first.out
    again = tunewise("study", study_file)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "--resume goes on with a study" in again.err
    resumed = tunewise("study", study_file, "--resume", "seeds=2")
    assert resumed.code == 0
    assert "4 runs; 2 done, 2 to do" in resumed.out
    command = (tmp_path / "runs/ranks/command.txt").read_text()
    assert command == "tunewise study runs/ranks/study.yaml --out runs/ranks-again\n"


def test_a_study_with_a_failed_run_ends_with_2_and_says_which(
    tunewise: Tunewise, study_file: Path
) -> None:
    answer = tunewise("study", study_file, "vary.method.rank=[1]", "method.blocks=last-9")
    assert answer.code == 2
    assert answer.err.startswith("error: rank=1, seed 0: method.blocks: the last 9 asked for")
    assert answer.err.count("\n") == 1


def test_a_report_is_made_of_a_study_s_folder_and_of_nothing_else(
    tunewise: Tunewise,
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunewise.studies.statistics.NUM_RESAMPLES", 20)
    monkeypatch.setattr("tunewise.reports.report._write_pictures", lambda *_: None)
    assert tunewise("study", study_file, "--out", tmp_path / "there").code == 0
    made = tunewise("report", tmp_path / "there")
    assert made.out.strip() == str(tmp_path / "there/report.html")
    assert (tmp_path / "there/cells.csv").is_file()
    wrong = tunewise("report", tmp_path)
    assert wrong.code == 2
    assert "not the folder of a study" in wrong.err


def test_a_study_that_is_no_study_is_one_line(tunewise: Tunewise, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: x\nvary: {method.rnk: [1]}\n")
    answer = tunewise("study", path)
    assert answer.code == 2
    assert "did you mean 'rank'" in answer.err
