"""What must hold for every task of the catalogue and every kind of task."""

from pathlib import Path

import pytest
from tokenizers import models, pre_tokenizers

from tunewise.config import make_config
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer, byte_level
from tunewise.errors import DataError
from tunewise.metrics import METRICS
from tunewise.tasks import TASKS, Task
from tunewise.tasks.named import task_names
from tunewise.tasks.task import POCKET_REVIEWS

every_named_task = pytest.mark.parametrize("name", task_names())
every_kind_of_task = pytest.mark.parametrize("kind", TASKS)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Return a tokenizer with one token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([END_OF_TEXT, *alphabet])}
    backend = byte_level(models.BPE(vocabulary, []))
    backend.add_special_tokens([END_OF_TEXT])
    return Tokenizer(backend)


def task_and_data(name: str, request: pytest.FixtureRequest) -> tuple[Task, Path | None]:
    """Return a named task and where its rows are; skip if they are not on this machine."""
    data = None
    if name != POCKET_REVIEWS:
        data = request.getfixturevalue("shared_data")
        if not (data / name).is_dir():
            pytest.skip(f"no {data / name}")
    return make_config(fields={"task": name}).task, data


@every_named_task
def test_every_split_has_examples_with_ids_of_their_own(
    name: str, request: pytest.FixtureRequest
) -> None:
    task, data = task_and_data(name, request)
    for split in SPLITS:
        examples = task.examples(split, data)
        assert len({example.id for example in examples}) == len(examples) >= 200


@every_named_task
def test_every_label_is_learnt_and_asked_for(name: str, request: pytest.FixtureRequest) -> None:
    task, data = task_and_data(name, request)
    if task.label_names is None:
        pytest.skip(f"{name} has no labels")
    for split in SPLITS:
        examples = task.examples(split, data)
        assert {example.target for example in examples} == set(task.label_names)
        assert {example.choices for example in examples} == {task.label_names}


@every_named_task
def test_every_example_becomes_sequences_with_something_to_score(
    name: str, tokenizer: Tokenizer, request: pytest.FixtureRequest
) -> None:
    task, data = task_and_data(name, request)
    examples = task.examples("validation", data)[:100]
    encoded = task.encode(examples, tokenizer, max_length=64, prefix=range(900, 904))
    assert {s.example_id for s in encoded.sequences} == {example.id for example in examples}
    for sequence in encoded.sequences:
        assert sequence.num_scored > 0
        assert len(sequence.ids) <= 64
        assert sequence.ids[:4].tolist() == [900, 901, 902, 903]


@every_named_task
def test_no_text_of_the_test_split_is_trained_on(name: str, request: pytest.FixtureRequest) -> None:
    task, data = task_and_data(name, request)
    seen = {example.prompt + example.target for example in task.examples("train", data)}
    test = task.examples("test", data)
    leaked = [example.id for example in test if example.prompt + example.target in seen]
    assert not leaked


@every_named_task
def test_a_named_task_says_what_it_is(name: str) -> None:
    task = make_config(fields={"task": name}).task
    assert task.name == name
    assert task.description
    assert TASKS[task.kind] is type(task)


@every_named_task
def test_a_named_task_without_its_rows_is_told_where_to_put_them(name: str, tmp_path: Path) -> None:
    task = make_config(fields={"task": name}).task
    if name == POCKET_REVIEWS:
        assert task.examples("test", tmp_path) == task.examples("test")
        return
    with pytest.raises(DataError, match=rf"--data DIR.*DIR/{name}/train\.jsonl"):
        task.examples("train")
    with pytest.raises(DataError, match=rf"no folder .*{name}"):
        task.examples("train", tmp_path)


@every_kind_of_task
def test_a_kind_of_task_names_metrics_that_exist(kind: str) -> None:
    assert TASKS[kind].metrics
    assert set(TASKS[kind].metrics) <= set(METRICS)


@every_kind_of_task
def test_a_path_is_kept_whole_so_that_a_run_can_be_repeated_elsewhere(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = make_config(fields={"task": {"kind": kind, "path": "rows.csv"}}).task
    assert task.path == tmp_path / "rows.csv"


@every_kind_of_task
def test_a_path_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    fields = {"task": {"kind": kind, "path": str(tmp_path / "rows.csv")}}
    with pytest.raises(DataError, match=r"task\.path: .*rows\.csv"):
        make_config(fields=fields).task.examples("train")
