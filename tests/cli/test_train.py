"""`run`, `study` and `report` do what they say."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunewise.config import make_config
from tunewise.data.rows import SPLITS

from .conftest import Tunewise

pytestmark = pytest.mark.slow


def test_a_run_prints_its_result_and_leaves_it(
    tunewise: Tunewise, run_words: list[str | Path], tmp_path: Path
) -> None:
    answer = tunewise(*run_words)
    assert answer.code == 0, answer.err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["config"]["method"]["rank"] == 2
    for metric, value in result["metrics"]["test"].items():
        assert f"test {metric}" in answer.out
        assert f"{value:.4f}" in answer.out
    assert str(Path("out") / "result.json") in answer.out


def test_the_data_folder_can_be_set_once_for_all(
    tunewise: Tunewise,
    run_words: list[str | Path],
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    words = [word for word in run_words if word not in ("--data", data)]
    assert "--data" in tunewise(*words).err
    monkeypatch.setenv("TUNEWISE_DATA", str(data))
    assert tunewise(*words).code == 0
    assert (tmp_path / "out" / "result.json").is_file()


def test_a_finished_run_is_repeated_from_its_configuration(
    tunewise: Tunewise, run_words: list[str | Path], data: Path, tmp_path: Path
) -> None:
    tunewise(*run_words)
    answer = tunewise("run", "out/config.yaml", "--data", data, "--out", "again")
    assert answer.code == 0, answer.err
    one, two = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("out", "again")
    )
    assert one["metrics"] == two["metrics"]
    assert one["config"] == two["config"]


def test_single_fields_of_a_task_are_set_by_words(
    tunewise: Tunewise, run_words: list[str | Path], tmp_path: Path
) -> None:
    words = ["task.samples={train: 8}", "task.train_size=0.5", "task.lowercase=true"]
    answer = tunewise(*run_words, *words)
    assert answer.code == 0, answer.err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert {split: result["data"][split]["examples"] for split in SPLITS} == {
        "train": 5,
        "validation": 5,
        "test": 10,
    }
    task = result["config"]["task"]
    assert (task["samples"], task["train_size"], task["lowercase"]) == ({"train": 8}, 0.5, True)


def test_a_folder_in_use_is_left_as_it_was(
    tunewise: Tunewise, run_words: list[str | Path], data: Path
) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert tunewise(*run_words, "--out", data).code == 2
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_run_is_resumed_by_its_folder_alone(
    tunewise: Tunewise, run_words: list[str | Path], caplog: pytest.LogCaptureFixture
) -> None:
    constant = ("train.schedule=constant", "train.warmup=0")
    assert tunewise(*run_words, *constant).code == 0
    resume = ("run", "--out", "out", "--resume")
    assert tunewise(*resume).code == 0
    nothing = tunewise("run", "--out", "otu", "--resume")
    assert (nothing.code, nothing.err) == (
        2,
        "error: --resume: no run in otu (otu/config.yaml is not there)\n",
    )
    assert "very negative 2" in tunewise(*resume, "--dry-run").out
    other = tunewise(*resume, "seed=1")
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "--resume: out was started with seed 0, and this has 1" in other.err
    begun = tunewise(*run_words, "--out", "other", "--resume")
    assert begun.code == 0 and "no run in other, so a new one begins" in caplog.text
    assert make_config(Path("out/config.yaml")).train.epochs == 1
    assert tunewise(*resume, "train.epochs=2").code == 0
    longer = make_config(Path("out/config.yaml"))
    assert (longer.train.epochs, longer.method.model_dump()["rank"]) == (2, 2)


def test_a_dry_run_shows_examples_and_lengths_and_leaves_nothing(
    tunewise: Tunewise,
    run_words: list[str | Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("tunewise.run.run", refuse)
    answer = tunewise(*run_words, "--dry-run")
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


def test_a_dry_run_marks_scored_tokens_and_takes_no_text_for_markup(
    tunewise: Tunewise, model_folder: Path, tmp_path: Path
) -> None:
    row = json.dumps({"prompt": "[bold]Say[/bold] {x} [/]:", "completion": " [red]no"})
    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").write_text(row)
    words = ("task.kind=generation", f"task.path={tmp_path}", "method=soft_prompt")
    answer = tunewise("run", "--model", model_folder, *words, "method.tokens=2", "--dry-run")
    assert answer.code == 0, answer.err
    assert "[2 virtual tokens][bold]Say[/" in answer.out
    assert "⟦ [red]no" in answer.out


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


def test_a_study_says_what_is_planned_runs_it_and_is_resumed(
    tunewise: Tunewise, study_file: Path, tmp_path: Path
) -> None:
    first = tunewise("study", study_file)
    assert first.code == 0
    assert "2 runs; 0 done, 2 to do" in first.out
    assert "1/2  rank=1, seed=0: validation accuracy " in first.out
    assert "tunewise report runs/ranks" in first.out
    again = tunewise("study", study_file)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "--resume" in again.err
    resumed = tunewise("study", study_file, "--resume", "seeds=2")
    assert resumed.code == 0
    assert "4 runs; 2 done, 2 to do" in resumed.out
    command = (tmp_path / "runs/ranks/command.txt").read_text()
    assert command == "tunewise study runs/ranks/study.yaml --out runs/ranks-again\n"


def test_a_study_is_resumed_with_the_data_folder_that_it_was_started_with(
    tunewise: Tunewise, tmp_path: Path, model_folder: Path, data: Path
) -> None:
    path = tmp_path / "ranks.yaml"
    base = {"model": str(model_folder), "task": "sst5", "train": {"epochs": 1, "precision": "fp32"}}
    path.write_text(json.dumps({"name": "ranks", "base": base, "vary": {"method.rank": [1]}}))
    assert tunewise("study", path, "--data", data).code == 0
    resumed = tunewise("study", path, "--resume", "seeds=2")
    assert (resumed.code, resumed.err) == (0, "")
    assert f"--data {data}" in (tmp_path / "runs/ranks/command.txt").read_text()


def test_a_study_whose_rows_are_not_there_ends_before_its_plan(
    tunewise: Tunewise, study_file: Path, tmp_path: Path
) -> None:
    answer = tunewise("study", study_file, "base.task.path=nowhere")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(
        f"error: task.path: {tmp_path / 'nowhere'}: no such file or folder; a path is taken from"
    )
    assert list((tmp_path / "runs/ranks").iterdir()) == []


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
    assert "not the folder of a run or a study" in wrong.err


def test_a_mistake_in_a_study_is_one_line(tunewise: Tunewise, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: x\nvary: {method.rnk: [1]}\n")
    answer = tunewise("study", path)
    assert answer.code == 2
    assert "did you mean 'rank'" in answer.err
