"""The first commands of a newcomer, right and wrong, and the answer to each."""

import csv
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunewise.config import make_config
from tunewise.runs.folder import CONFIG_FILE

from .conftest import Tunewise

OPINIONS = ["great", "fine", "dull", "awful"]


def write_csv(path: Path, rows: list[dict[str, object]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0]], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of a newcomer."""
    reviews: list[dict[str, object]] = [
        {
            "nr": number,
            "review": f"Number {number}: what a {OPINIONS[number % 4]} film, all in all.",
            "stars": 4 - number % 4,
            "day": f"2020-01-{number % 28 + 1:02}",
            "price": number * 1.37,
            "age": 20 + number % 21,
            "user": f"user{number}",
            "country": "DE",
        }
        for number in range(40)
    ]
    write_csv(tmp_path / "reviews.csv", reviews)
    write_csv(tmp_path / "german.csv", reviews, ";")
    pairs: list[dict[str, object]] = [
        {
            "question": f"What is {n} and {n}?",
            "answer": f"It is {2 * n}, of course.",
            "hint": "ab c",
        }
        for n in range(40)
    ]
    write_csv(tmp_path / "pairs.csv", pairs)
    write_csv(tmp_path / "texts.csv", [{"body": row["review"]} for row in reviews])
    write_csv(
        tmp_path / "two texts.csv",
        [{"head": row["review"], "tail": row["review"], "y": row["stars"]} for row in reviews],
    )
    tickets = tmp_path / "tickets"
    tickets.mkdir()
    for split, rows in {"train": reviews, "valid": reviews[:8], "test": reviews[:8]}.items():
        lines = [{"text": row["review"], "label": row["stars"]} for row in rows]
        (tickets / f"{split}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    chat = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    (tmp_path / "chats.jsonl").write_text((json.dumps({"messages": chat}) + "\n") * 12)
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "stuff.csv").write_text("text,label\na,1\n")
    (tmp_path / "book.txt").write_text("It was a day. It was a night. " * 40)
    (tmp_path / "mine.yaml").write_text("train: {epochs: 1}\n")
    (tmp_path / "wrong.yaml").write_text("train: {epoch: 1}\n")
    (tmp_path / "study.yaml").write_text("name: s\nvary: {method.rank: [1, 2]}\n")
    (tmp_path / "sheet.xlsx").write_bytes(b"PK")
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / CONFIG_FILE).write_text("model: pocket\n")
    return tmp_path


RECOGNIZED = {
    "run reviews.csv --target stars": "'stars' has 4 values in 40 rows: classification of 'review'",
    "run german.csv --target stars": "classification of 'review'",
    "run reviews.csv task.label=stars": "classification of 'review'",
    "run reviews.csv --target stars --text review --text day": "of 'review' and 'day'",
    "run mine.yaml reviews.csv --target stars": "classification of 'review'",
    "run reviews.csv --target stars --task classification": "classification of 'review'",
    "run tickets": "'label' has 4 values in 40 rows: classification of 'text'",
    "run pairs.csv --target answer": "'answer' holds texts: they are written after 'question'",
    "run chats.jsonl": "has the columns 'messages': instructions and their responses",
    "run texts.csv": "holds texts only ('body'): language modelling",
    "run book.txt": "holds texts only ('text'): language modelling",
    "run reviews.csv --target user --text review task.kind=generation": "'user' holds texts",
    "run 'two texts.csv' --target y --text tail": "classification of 'tail'",
}


@pytest.mark.parametrize("command", RECOGNIZED)
def test_the_task_of_a_table_is_found_out_and_said(
    command: str, tunewise: Tunewise, files: Path, model_folder: Path
) -> None:
    words = shlex.split(command)
    answer = tunewise(*words, "--model", model_folder, "--dry-run")
    assert answer.code == 0, answer.err
    first = answer.out.splitlines()[0]
    assert RECOGNIZED[command] in first
    assert first.startswith(
        Path(next(w for w in words if Path(w).exists() and "yaml" not in w)).name
    )


def test_a_run_of_a_table_says_what_it_trains_and_can_be_repeated(
    tunewise: Tunewise, files: Path, model_folder: Path
) -> None:
    words = ["--model", str(model_folder), "train.epochs=1", "--method", "last_layer"]
    answer = tunewise("run", "reviews.csv", "--target", "stars", *words, "--out", "out")
    assert answer.code == 0, answer.err
    reason, task, model, *_ = answer.out.splitlines()
    assert reason == "reviews.csv: 'stars' has 4 values in 40 rows: classification of 'review'"
    assert task == (
        f"task custom, classification {files}/reviews.csv: 32 to train on, 4 to validate with, "
        "4 to test with (validation and test split off here); labels: 1, 2, 3, 4"
    )
    assert model.startswith(f"model {model_folder}, ")
    assert "last_layer trains" in model
    assert "1 epoch at learning rate 0.005" in model
    config = make_config(Path("out") / CONFIG_FILE)
    assert config.task.path == files / "reviews.csv"
    again = tunewise("run", f"out/{CONFIG_FILE}", "--out", "again")
    assert again.code == 0
    assert Path("again/predictions.jsonl").read_text() == Path("out/predictions.jsonl").read_text()


MISTAKES = {
    # A table
    "run reviews.csv": "which column is to be predicted? Add --target COLUMN, such as "
    "--target stars",
    "run pairs.csv": "its columns: question, answer, hint",
    "run reviews.csv --target star": "no column 'star'; did you mean 'stars'?",
    "run reviews.csv --target stars --text reviw": "no column 'reviw'; did you mean 'review'?",
    "run reviews.csv --target nr": "40 different labels in 40 rows (0, 1, 2, ...)",
    "run reviews.csv --target price": "numbers to be predicted, or ids?",
    "run reviews.csv --target user": "40 values in 40 rows, so they are keys or names",
    "run reviews.csv --target age": "numbers to be predicted, or ids?|a quantity?",
    "run reviews.csv --target country": "every row has 'DE', so there is nothing to learn",
    "run 'two texts.csv' --target y": "several columns may be the text (head, tail); name it with "
    "--text head, or give several: --text head --text tail",
    "run texts.csv --target body": "so they are keys|no other column holds texts",
    "run sheet.xlsx --target stars": "save it as 'CSV UTF-8'",
    "run none.csv --target stars": "none.csv: no such file",
    "run loose": "a folder without a file for each split (train, validation, test); name one of "
    "its tables: loose/stuff.csv",
    "run reviews.csv german.csv": "'german.csv' is a second table; one is read",
    "run --target stars": "--target: is of a table, and none is given: tunewise run TABLE.csv",
    "run reviews.csv --target stars --task sst5": "is found out from its rows; leave --task out",
    "run reviews.csv --target stars task.kind=cloze": "task.label=COLUMN; see docs/tasks.md",
    "estimate reviews.csv --target star": "did you mean 'stars'?",
    "params --text a": "--text: is of a table",
    # An option that is not used
    "run --data reviews.csv": "for this table: tunewise run reviews.csv --target COLUMN",
    "run --data loose": "--data loose: is not used: the rows of task 'pocket_reviews' are in "
    "tunewise itself",
    "run reviews.csv --target stars --data loose": "reviews.csv; leave it out",
    "run --task sst5 --data none": "--data none: no such folder; for a table: tunewise run",
    "study study.yaml --data loose": "--data loose: is not used",
    "estimate --data none": "--data none: is not used",
    # Names
    "run --task classification": "is a kind of task, and a name is needed; for rows of your own",
    "run --task reviews.csv": "for a file: tunewise run reviews.csv --target COLUMN",
    "run --method LoRA": "did you mean 'lora'?",
    "run method=lora-8": "did you mean 'lora'?",
    "run --model GPT2": "did you mean 'gpt2'?",
    "run --epochs 3": "without dashes: train.epochs=3",
    "run --lr 1e-4": "train.learning_rate=1e-4",
    "run epochs=3": "did you mean 'train.epochs'?",
    "run train.epochs 3": "write train.epochs=3",
    "run epochs = 3": "write train.epochs=3",
    "run mine.yaml train.epoch=3": "the command line, over mine.yaml: train: unknown field 'epoch'",
    "run wrong.yaml train.batch_size=3": "wrong.yaml: train: unknown field 'epoch'",
    # Files of another kind
    "run study.yaml": "is a study, not a run; write `tunewise study study.yaml`",
    "study mine.yaml": "mine.yaml",
    "run runs/new": "runs/new: no such file or folder",
    "run runs/old": "--out runs/old --resume goes on with it",
    # Commands
    "train": "no command 'train'; did you mean `tunewise run`?",
    "fine-tune reviews.csv": "did you mean `tunewise run reviews.csv`?",
    "reviews.csv": "write: tunewise run reviews.csv --target COLUMN",
    "mine.yaml": "write: tunewise run mine.yaml",
    "reports x": "did you mean 'report'?",
    # Runs that are not there, or not finished
    "predict runs/none --input reviews.csv --output x.csv": "runs/none: no such folder; known: old",
    "predict runs/odl --input reviews.csv --output x.csv": "no such folder; did you mean 'old'?",
    "predict runs/old --input reviews.csv --output x.csv": "tunewise run --out runs/old --resume",
    "predict runs/old --input reviews.csv": "write: tunewise predict RUN --input FILE "
    "--output FILE",
    "predict runs/old reviews.csv": "Missing option '--input': file of rows",
    "export runs/old --out x": "Missing option '--format': adapter or whole model",
    "export runs/old --format peft --out x": "the run has not finished; tunewise run --out",
    "report runs": "not the folder of a run or a study",
    "chat": "Missing argument 'RUN': folder of a run, or a model; write: tunewise chat RUN",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_wrong_command_teaches_the_right_one(
    command: str, tunewise: Tunewise, files: Path, model_folder: Path
) -> None:
    words = shlex.split(command)
    answer = tunewise(*words)
    assert answer.code == 2, (answer.out, answer.err)
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert any(part in answer.err for part in MISTAKES[command].split("|")), answer.err
    assert not Path("x").exists()


def test_a_data_folder_of_the_environment_hurts_no_other_task(
    tunewise: Tunewise, files: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWISE_DATA", "none")
    answer = tunewise(
        "run", "reviews.csv", "--target", "stars", "--model", model_folder, "--dry-run"
    )
    assert answer.code == 0, answer.err


@pytest.mark.slow
def test_the_installed_command_answers_alike(files: Path) -> None:
    program = Path(sys.executable).with_name("tunewise")
    if not program.is_file():
        pytest.skip(f"no {program}: the package is not installed in this environment")

    def answer_to(command: str) -> "subprocess.CompletedProcess[str]":
        words = [program, *shlex.split(command)]
        return subprocess.run(words, cwd=files, capture_output=True, text=True, timeout=120)

    chosen = list(MISTAKES)[::5]  # each costs the start of a process
    with ThreadPoolExecutor(2) as pool:
        for command, done in zip(chosen, pool.map(answer_to, chosen), strict=True):
            assert done.returncode == 2, command
            assert any(part in done.stderr for part in MISTAKES[command].split("|")), done.stderr
            assert done.stderr.count("\n") == 1, done.stderr
