"""Predictions are joined to the rows that they are of, in every format and with pandas."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from tiny import TASK_SETTINGS, add_noise

from tunewise.config import make_config, write_yaml
from tunewise.data.rows import read_rows
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, DataError
from tunewise.predict_file import Inputs, predict_file
from tunewise.run import run
from tunewise.runs.folder import CONFIG_FILE, PREDICTIONS_FILE, read_predictions
from tunewise.runs.model import adapted_model, save_trained

TEXTS = ["one", 'two "words",\nand a line', "three; four", "", "=five", "\n\nsix\n", "seven\r\nx"]
LABELS = ["good", "bad", "good", "bad", "good", "bad", "good"]
READ: dict[str, Callable[[Path], Any]] = {
    ".csv": lambda path: pandas.read_csv(path, keep_default_na=False),
    ".csv.gz": lambda path: pandas.read_csv(path, keep_default_na=False),
    ".tsv": lambda path: pandas.read_csv(path, sep="\t", keep_default_na=False),
    ".jsonl": lambda path: pandas.read_json(path, lines=True),
    ".json": pandas.read_json,
    ".parquet": pandas.read_parquet,
}
"""How pandas reads a file, by its ending."""


def write_frame(frame: Any, path: Path) -> Path:
    """Write a table with pandas; text formats get blank lines between some rows."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".json":
        frame.to_json(path, orient="records")
    elif path.suffix == ".jsonl":
        lines = frame.to_json(orient="records", lines=True).splitlines()
        path.write_text("\n\n".join(lines) + "\n")
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        header, *lines = frame.to_csv(index=False, sep=delimiter, quoting=1).split('"\n"')
        content = ('"\n\n  \n"'.join([header, *lines])).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture
def frame() -> Any:
    keys = [f"key {n}" for n in range(7)]
    return pandas.DataFrame({"key": keys, "text": TEXTS, "label": LABELS})


@pytest.fixture
def classifier(model_folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """The folder of a run, with weights that nothing has trained."""
    task = {"kind": "classification", "labels": {"0": "bad", "1": "good"}}
    config = make_config(
        fields={"model": str(model_folder), "task": task, "train": {"precision": "fp32"}}
    )
    model = adapted_model(config, model_folder, tokenizer)
    add_noise((parameter for _, parameter in model.trainable()), 0.3, 1)
    (tmp_path / "run").mkdir()
    write_yaml(config, tmp_path / "run" / CONFIG_FILE)
    save_trained(model, config, tmp_path / "run", tokenizer)
    return tmp_path / "run"


def answers_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("ending", READ)
def test_the_number_of_a_row_is_that_of_pandas(
    ending: str, frame: Any, classifier: Path, tmp_path: Path
) -> None:
    source = write_frame(frame, tmp_path / f"rows{ending}")
    read = READ[ending](source)
    assert len(read) == len(frame)
    output = tmp_path / "answers.jsonl"
    predict_file(classifier, source, output, with_input=True)
    answers = answers_of(output)
    assert [answer["row"] for answer in answers] == list(range(7))
    for answer in answers:
        assert answer["input"] == dict(read.iloc[answer["row"]])
    assert [row.number for row in read_rows(source)] == list(range(7))


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_rows_that_are_left_out_are_counted(ending: str, classifier: Path, tmp_path: Path) -> None:
    source, output = tmp_path / f"rows{ending}", tmp_path / "answers.jsonl"
    if ending == ".csv":
        source.write_text('text,n\na,1\nb,2,3\n\n"c\nd",4\n,,,\ne,5\n')
    else:
        source.write_text(
            '{"text": "a"}\n{"text": \n\n{"text": "c\\nd"}\n{"n": 1}\n{"text": "e"}\n'
        )
    predict_file(classifier, source, output, "drop", with_input=True)
    answers = answers_of(output)
    assert [(a["row"], a["input"]["text"]) for a in answers] == [(0, "a"), (2, "c\nd"), (4, "e")]


def test_a_run_s_predictions_are_joined_to_rows_that_were_split_and_sampled(
    frame: Any, model_folder: Path, tmp_path: Path, quick: None
) -> None:
    rows = pandas.concat([frame] * 5, ignore_index=True)
    rows["key"] = [f"k{n}" for n in range(len(rows))]
    rows.loc[3, "label"] = ""  # cannot be used
    source = write_frame(rows, tmp_path / "rows.csv")
    task = {"kind": "classification", "path": str(source), "bad_rows": "drop"}
    for key, samples in ((None, None), ("key", 3)):
        task |= {"id": key, "samples": samples}
        train = {"epochs": 0, "precision": "fp32"}
        config = make_config(fields={"model": str(model_folder), "task": task, "train": train})
        folder = run(config, out=tmp_path / f"run {key}").folder
        predictions = read_predictions(folder / PREDICTIONS_FILE)
        assert len(predictions) >= 3
        for prediction in predictions:
            row = rows.iloc[prediction.row]
            assert row["label"] == prediction.expected
            assert prediction.id == row["key"] if key else prediction.id.startswith("rows.csv:")
        first = json.loads((folder / PREDICTIONS_FILE).read_text("utf-8").splitlines()[0])
        assert [*first][:3] == ["id", "row", "expected"]


def test_predictions_of_earlier_versions_are_read(tmp_path: Path) -> None:
    line = {"example_id": "a:1", "expected": "x", "predicted": "y", "log_likelihood": -1.0}
    (tmp_path / "old.jsonl").write_text(json.dumps(line | {"num_scored": 1}) + "\n")
    (found,) = read_predictions(tmp_path / "old.jsonl")
    assert (found.id, found.row) == ("a:1", None)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".CSV"])
@pytest.mark.parametrize("with_input", [False, True])
def test_a_table_of_answers_holds_what_json_lines_hold(
    with_input: bool, ending: str, frame: Any, classifier: Path, tmp_path: Path
) -> None:
    renamed = frame.rename(columns={"key": "predicted"})
    source = write_frame(renamed, tmp_path / "rows.jsonl")
    lines, table = tmp_path / "answers.jsonl", tmp_path / f"answers{ending}"
    for output in (lines, table):
        assert predict_file(classifier, source, output, "stop", "predicted", with_input) == 7
    ours = [row.values for row in read_rows(table)]
    theirs = READ[ending.lower()](table)
    assert [*ours[0]] == [*theirs.columns]
    names = ["input.predicted", "text", "label"] if with_input else []
    chances = ["probability of bad", "probability of good"]
    assert [*theirs.columns] == ["id", "row", *names, "predicted", *chances]
    for answer, own, other in zip(answers_of(lines), ours, theirs.to_dict("records"), strict=True):
        assert own == {name: str(value) for name, value in other.items()}
        assert [other[name] for name in ("id", "row", "predicted")] == [
            answer[name] for name in ("id", "row", "predicted")
        ]
        assert [other[name] for name in chances] == [*answer["probabilities"].values()]
        if with_input:
            assert [other[name] for name in names] == [*answer["input"].values()]
    assert sorted(path.name for path in tmp_path.glob("answers*")) == sorted(
        [lines.name, table.name]
    )


def test_rows_are_kept_only_until_they_are_answered(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []

    class Watched(Inputs):
        def take(self, number: int | None) -> dict[str, Any]:
            waiting.append(len(self._waiting))
            return super().take(number)

    monkeypatch.setattr("tunewise.predict.MAX_ROWS", 4)
    monkeypatch.setattr("tunewise.predict_file.Inputs", Watched)
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"text": f"{n}"}) + "\n" for n in range(60)))
    predict_file(classifier, source, tmp_path / "a.jsonl")
    assert not waiting
    predict_file(classifier, source, tmp_path / "b.jsonl", with_input=True)
    assert len(waiting) == 60
    assert max(waiting) <= 5


def test_columns_with_taken_names_are_told_apart(classifier: Path, tmp_path: Path) -> None:
    row = {"text": "a", "id": "1", "input.id": "2", "predicted": "3", "probability of bad": "4"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    predict_file(classifier, tmp_path / "rows.jsonl", tmp_path / "answers.csv", with_input=True)
    (found,) = read_rows(tmp_path / "answers.csv")
    names = ["text", "input.id", "input.input.id", "input.predicted", "input.probability of bad"]
    assert [found.values[name] for name in names] == [*row.values()]


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_a_stopped_table_goes_on(
    ending: str,
    frame: Any,
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = write_frame(frame, tmp_path / "rows.csv")
    whole, output = tmp_path / f"whole{ending}", tmp_path / f"answers{ending}"
    predict_file(classifier, source, whole, with_input=True)
    monkeypatch.setattr("tunewise.predict.MAX_ROWS", 2)
    with monkeypatch.context() as patch:
        patch.setattr("tunewise.predict_file.to_json", stopping_after(3))
        with pytest.raises(KeyboardInterrupt):
            predict_file(classifier, source, output, with_input=True)
    assert len(answers_of(output.with_name(f"{output.name}.part"))) == 3
    predict_file(classifier, source, output, with_input=True)
    assert [row.values["row"] for row in read_rows(output)] == [
        row.values["row"] for row in read_rows(whole)
    ]
    assert [row.values["input" if ending == ".jsonl" else "text"] for row in read_rows(output)] == [
        row.values["input" if ending == ".jsonl" else "text"] for row in read_rows(whole)
    ]


def stopping_after(count: int) -> Callable[..., str]:
    from tunewise.json_text import to_json

    left = [count]

    def write(*values: Any, **options: Any) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return to_json(*values, **options)

    return write


NO_KEYS: list[tuple[list[Any], str]] = [
    ([1, 1.0], "holds '1', as"),
    (["a", " "], "holds ' '; a key is needed"),
    (["a", None], "holds None; a key is needed"),
    (["a", 1.5], "holds 1.5; a key is needed"),
    (["a", True], "holds True; a key is needed"),
]


@pytest.mark.parametrize(("keys", "problem"), NO_KEYS)
def test_a_key_names_one_row(
    keys: list[Any], problem: str, classifier: Path, model_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "rows.jsonl"
    rows = [{"text": "a", "k": key, "label": f"{n % 2}"} for n, key in enumerate(keys * 6)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        predict_file(classifier, source, tmp_path / "x.jsonl", key="k")
    assert "column 'k' holds" in str(caught.value)
    source.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    with pytest.raises(DataError) as caught:
        predict_file(classifier, source, tmp_path / "x.jsonl", key="k")
    assert problem in str(caught.value)
    with pytest.raises(DataError, match="no column 'kk'; did you mean 'k'"):
        predict_file(classifier, source, tmp_path / "x.jsonl", key="kk")
    task = {"kind": "classification", "path": str(source), "id": "k"}
    config = make_config(fields={"model": str(model_folder), "task": task})
    with pytest.raises(DataError) as caught:
        config.task.examples("train")
    assert problem in str(caught.value)


@pytest.mark.parametrize("ending", [".xlsx", ".parquet", ".csv.gz"])
def test_other_kinds_of_outputs_are_refused_at_once(
    ending: str, frame: Any, classifier: Path, tmp_path: Path
) -> None:
    source = write_frame(frame, tmp_path / "rows.csv")
    with pytest.raises(ConfigError, match=r"cannot be written; \.csv and \.tsv are tables"):
        predict_file(classifier, source, tmp_path / f"answers{ending}")


@pytest.mark.parametrize("task", ["instruction", "cloze"])
def test_every_kind_of_answer_has_the_same_names(
    task: str, model_folder: Path, rows: Path, tmp_path: Path, quick: None
) -> None:
    settings = {"kind": task, "path": str(rows)} | TASK_SETTINGS.get(task, {})
    config = make_config(
        fields={"model": str(model_folder), "task": settings, "train": {"epochs": 0}}
    )
    folder = run(config, out=tmp_path / "run").folder
    predict_file(folder, rows / "test.jsonl", tmp_path / "answers.jsonl")
    kept = answers_of(folder / PREDICTIONS_FILE)
    for answer, line in zip(answers_of(tmp_path / "answers.jsonl"), kept, strict=True):
        same = {"id", "row", "predicted"}
        assert {name: answer[name] for name in same} == {name: line[name] for name in same}
        assert answer.keys() <= line.keys()
