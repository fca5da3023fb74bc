"""What must hold for every task of the catalogue and every kind of task."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunewise.config import make_config
from tunewise.data import hub
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.rows import SPLITS, Row, Split
from tunewise.data.splits import Source
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, DataError
from tunewise.evaluation.answers import LabelAnswer
from tunewise.metrics import METRICS
from tunewise.tasks import TASKS, Cloze, Task, TextTask
from tunewise.tasks.named import task_names
from tunewise.tasks.task import POCKET_REVIEWS

every_named_task = pytest.mark.parametrize("name", task_names())
every_readable_task = pytest.mark.parametrize(
    "name",
    [
        name if name == POCKET_REVIEWS else pytest.param(name, marks=pytest.mark.real_data)
        for name in task_names()
    ],
)
every_kind_of_task = pytest.mark.parametrize("kind", TASKS)


def task_and_data(name: str, request: pytest.FixtureRequest) -> tuple[Task, Path | None]:
    """Return a named task and where its rows are; skip if they are not on this machine."""
    data = None
    if name != POCKET_REVIEWS:
        data = request.getfixturevalue("shared_data")
        if not (data / name).is_dir():
            pytest.skip(f"no {data / name}")
    return make_config(fields={"task": name}).task, data


def whole(example: Example) -> str:
    return example.prompt + example.cue + example.target


@every_readable_task
def test_every_split_has_as_many_examples_as_there_are_rows_or_samples(
    name: str, request: pytest.FixtureRequest
) -> None:
    task, data = task_and_data(name, request)
    for split in SPLITS:
        examples, rows = task.examples(split, data), task.rows(split, data)
        count = task.samples.get(split) if isinstance(task.samples, dict) else task.samples
        assert len({example.id for example in examples}) == len(examples) >= 10
        assert {example.id for example in examples} <= {row.id for row in rows}
        usable = len(rows)
        if isinstance(
            task, TextTask
        ):  # a row without an answer, or with too long a one, is dropped
            answers = [len(task.example(row).target.strip()) for row in rows]
            usable = sum(0 < length <= (task.max_answer or length) for length in answers)
        assert len(examples) == min(count or usable, usable)


@every_readable_task
def test_every_label_is_learnt_and_asked_for(name: str, request: pytest.FixtureRequest) -> None:
    task, data = task_and_data(name, request)
    choices = tuple(task.verbalizers.values()) if isinstance(task, Cloze) else task.label_names
    if choices is None:
        pytest.skip(f"{name} has no labels")
    for split in SPLITS:
        examples = task.examples(split, data)
        assert {example.target for example in examples} == set(choices)
        assert {example.choices for example in examples} == {choices}


@every_readable_task
@pytest.mark.parametrize("max_length", [12, 64])
def test_every_example_becomes_sequences_with_something_to_score(
    name: str, max_length: int, tokenizer: Tokenizer, request: pytest.FixtureRequest
) -> None:
    task, data = task_and_data(name, request)
    examples = task.examples("validation", data)[:100]
    encoded = task.encode(examples, tokenizer, Layout(max_length, (900, 901, 902)))
    assert {s.example_id for s in encoded.sequences} == {example.id for example in examples}
    for sequence in encoded.sequences:
        assert sequence.num_scored > 0
        assert len(sequence.ids) <= max_length
        assert sequence.ids[:3].tolist() == [900, 901, 902]
        assert (sequence.label is not None) == isinstance(task.answer_kind, LabelAnswer)


@every_readable_task
def test_every_column_that_is_needed_is_used_and_no_other(
    name: str, request: pytest.FixtureRequest
) -> None:
    task, data = task_and_data(name, request)
    row = task.rows("test", data)[0]
    values = {column: row.values[column] for column in task.columns}

    def made(values: dict[str, Any]) -> Example:
        rows = [Row(values, "rows.jsonl:1")] * 9
        source = Source("rows", {split: lambda on_bad_row: rows for split in SPLITS})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(task), "source", lambda self, data: source)
            return task.examples("test")[0]

    needed = made(values)
    assert whole(needed) == whole(made(values | {"another column": "x"}))
    for column in task.columns:
        with pytest.raises(DataError, match=rf"rows\.jsonl:1: .*{column}"):
            made({other: value for other, value in values.items() if other != column})


@every_readable_task
def test_no_text_of_the_test_split_is_trained_on(name: str, request: pytest.FixtureRequest) -> None:
    task, data = task_and_data(name, request)
    seen = {whole(example) for example in task.examples("train", data)}
    leaked = [example.id for example in task.examples("test", data) if whole(example) in seen]
    assert not leaked


@every_named_task
def test_a_named_task_says_what_it_is(name: str) -> None:
    task = make_config(fields={"task": name}).task
    assert task.description


@every_named_task
def test_a_named_task_without_its_rows_is_told_where_to_put_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "_go_offline_without_a_network", lambda: None)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=unreachable))
    task = make_config(fields={"task": name}).task
    if name == POCKET_REVIEWS:
        assert task.examples("test", tmp_path) == task.examples("test")
        return
    with pytest.raises(DataError, match=rf"--data DIR.*DIR/{name}/train\.jsonl") as caught:
        task.examples("train")
    assert f"task '{name}'" in str(caught.value)
    with pytest.raises(DataError) as caught:
        task.examples("train", tmp_path)
    named = (
        f"no folder {tmp_path / name}"
        if task.hub is None
        else f"{task.hub.path} cannot be downloaded"
    )
    assert named in str(caught.value)


LEAST: dict[str, dict[str, Any]] = {
    "cloze": {"template": "Is {text} good?", "verbalizers": {"0": " no", "1": " yes"}}
}
"""What a kind needs beside a path."""


@every_kind_of_task
def test_a_kind_of_task_names_metrics_that_exist(kind: str) -> None:
    assert TASKS[kind].model_fields["metrics"].default
    assert set(TASKS[kind].model_fields["metrics"].default) <= set(METRICS)


@every_kind_of_task
def test_a_kind_of_task_has_an_answer_that_its_metrics_can_judge(kind: str) -> None:
    values = {"kind": kind, "path": "rows.csv"} | LEAST.get(kind, {})
    answer = make_config(fields={"task": values}).task.answer_kind
    for name in TASKS[kind].model_fields["metrics"].default:
        of = METRICS[name].of
        assert of != "label" or answer.has_labels
        assert of != "text" or answer.writes_text


@every_kind_of_task
def test_a_path_is_kept_whole_so_that_a_run_can_be_repeated_elsewhere(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"kind": kind, "path": "rows.csv"} | LEAST.get(kind, {})
    task = make_config(fields={"task": values}).task
    assert task.path == tmp_path / "rows.csv"


@every_kind_of_task
def test_a_path_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    values = {"kind": kind, "path": str(tmp_path / "rows.csv")} | LEAST.get(kind, {})
    with pytest.raises(DataError, match=r"task\.path: .*rows\.csv"):
        make_config(fields={"task": values}).task.examples("train")


@every_kind_of_task
@pytest.mark.parametrize("split", SPLITS)
def test_a_file_of_a_split_that_holds_no_rows_is_named(
    kind: str, split: Split, tmp_path: Path
) -> None:
    for name in SPLITS:
        (tmp_path / f"{name}.jsonl").write_text("\n")
    values = {"kind": kind, "path": str(tmp_path)} | LEAST.get(kind, {})
    with pytest.raises(DataError, match=rf"{split}\.jsonl: the file holds no rows"):
        make_config(fields={"task": values}).task.examples(split)


@every_kind_of_task
@pytest.mark.parametrize("samples", [0, -1, {"train": 0}])
def test_no_samples_at_all_are_refused(kind: str, samples: int | dict[str, int]) -> None:
    values = {"kind": kind, "path": "rows.csv", "samples": samples} | LEAST.get(kind, {})
    with pytest.raises(ConfigError, match=r"task\.samples: at least one row of each split"):
        make_config(fields={"task": values})
