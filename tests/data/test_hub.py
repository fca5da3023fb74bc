"""Rows from the hub: only where no folder has them, under our names, and one line if they are not.

Nothing here touches the network: `load_dataset` is replaced, or reads a folder.
"""

import builtins
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunewise.config import make_config
from tunewise.data import hub
from tunewise.data.hub import HubData, hub_source
from tunewise.data.rows import SPLITS
from tunewise.data.splits import rows_of
from tunewise.errors import ConfigError, DataError
from tunewise.tasks import Task

Rows = list[dict[str, Any]]
Call = tuple[str, str | None, str]


class FakeDataset(Rows):
    """What `load_dataset` returns, as far as it is used."""

    def rename_columns(self, names: dict[str, str]) -> "FakeDataset":
        if missing := names.keys() - self[0].keys():
            raise ValueError(f"Original column names {missing} not in the dataset.\nSecond line.")
        return FakeDataset({names.get(key, key): row[key] for key in row} for row in self)


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Call]]:
    """Return a function that puts a library with these splits in the place of `datasets`."""
    monkeypatch.setattr(hub, "_go_offline_without_a_network", lambda: None)

    def install(splits: dict[str, Rows] | Exception) -> list[Call]:
        calls: list[Call] = []

        def load_dataset(path: str, name: str | None = None, *, split: str) -> FakeDataset:
            calls.append((path, name, split))
            if isinstance(splits, Exception):
                raise splits
            if split not in splits:
                raise ValueError(f"Unknown split {split!r}. Should be one of {[*splits]}.")
            return FakeDataset(splits[split])

        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
        return calls

    return install


def pairs(number: int) -> Rows:
    return [{"question1": f"q{n}", "question2": f"p{n}", "label": n % 2} for n in range(number)]


def quora() -> Task:
    return make_config(fields={"task": "quora"}).task


def test_columns_and_splits_get_our_names(datasets: Callable[..., list[Call]]) -> None:
    calls = datasets({"train": pairs(40), "validation": pairs(6), "test": pairs(3)})
    examples = quora().examples("test")
    assert len(examples) == 6  # theirs for validation, since their test labels are hidden
    assert 'Question 1: "q0" Question 2: "p0' in examples[0].prompt
    assert [example.id for example in examples] == [f"test:{n}" for n in range(1, 7)]
    assert calls == [("nyu-mll/glue", "qqp", "validation")]


def test_a_column_may_take_the_name_of_another_that_goes(
    datasets: Callable[..., list[Call]],
) -> None:
    row = {"subject": "hi", "message": "the mail", "text": "hi the mail", "label": 1}
    datasets({"train": [row] * 10, "test": [row] * 2})
    (first, *_) = make_config(fields={"task": "enron_spam"}).task.examples("test")
    assert first.prompt + first.cue == "hi\nthe mail"


def test_a_split_that_they_lack_is_taken_from_their_training_rows(
    datasets: Callable[..., list[Call]],
) -> None:
    datasets({"train": pairs(40), "validation": pairs(6)})
    task = quora()
    train, validation = (
        {e.prompt for e in task.examples(split)} for split in ("train", "validation")
    )
    assert (len(train), len(validation)) == (32, 8)
    assert not train & validation


def test_rows_in_a_folder_here_are_used_in_place_of_the_hubs(
    datasets: Callable[..., list[Call]], tmp_path: Path
) -> None:
    calls = datasets(ConnectionError("must not be asked"))
    (tmp_path / "quora").mkdir()
    row = json.dumps({"sentence1": "here", "sentence2": "there", "label": 1}) + "\n"
    for split in SPLITS:
        (tmp_path / "quora" / f"{split}.jsonl").write_text(row)
    assert 'Question 1: "here"' in quora().examples("train", tmp_path)[0].prompt
    assert calls == []


def line(task: Task, data: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        task.examples("train", data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("with_a_folder", [False, True])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("no route to host"), "no route to host"),
        (OSError("first line\nsecond line"), "first line"),
        (TimeoutError(), "TimeoutError"),
        (KeyError("a bug of theirs"), "a bug of theirs"),
    ],
)
def test_without_a_network_one_line_names_the_task_its_home_and_where_rows_could_lie(
    datasets: Callable[..., list[Call]],
    tmp_path: Path,
    error: Exception,
    reason: str,
    with_a_folder: bool,
) -> None:
    datasets(error)
    found = line(quora(), tmp_path if with_a_folder else None)
    for named in ("'quora'", "nyu-mll/glue", "--data DIR", "DIR/quora/train.jsonl", reason):
        assert named in found


def test_without_the_library_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "datasets":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    found = line(quora())
    assert "'quora'" in found
    assert "pip install 'tunewise[hub]'" in found
    assert "--data DIR" in found


def test_a_column_that_is_not_there_is_named_in_one_line(
    datasets: Callable[..., list[Call]],
) -> None:
    datasets({"train": [{"question1": "a", "label": 0}] * 9, "validation": pairs(6)})
    found = line(quora())
    assert "question2" in found
    assert "nyu-mll/glue" in found


def test_what_is_wrong_with_a_row_names_its_place_in_the_split(
    datasets: Callable[..., list[Call]],
) -> None:
    rows = pairs(10)
    rows[6]["label"] = -1
    datasets({"train": pairs(10), "validation": rows})
    with pytest.raises(DataError, match=r"quora/test:7: label '-1' has no verbalizer"):
        quora().examples("test")


def test_a_home_without_training_rows_is_refused() -> None:
    words = ["task.hub={path: me/mine, splits: {test: test}}"]
    with pytest.raises(ConfigError, match=r"task\.hub\.splits: .*train"):
        make_config(fields={"task": "quora"}, overrides=words)


def test_a_library_in_offline_mode_is_not_kept_waiting_for_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = pytest.importorskip("datasets")
    from huggingface_hub import constants

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(head=unreachable))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", False)
    hub._go_offline_without_a_network()
    assert constants.HF_HUB_OFFLINE
    assert library.config.HF_HUB_OFFLINE


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.filterwarnings("ignore")
def test_the_library_itself_gives_the_rows_of_a_folder_as_we_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(hub, "_go_offline_without_a_network", lambda: None)
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {split: [{"message": f"{split} {n}", "label": n} for n in range(9)] for split in SPLITS}
    (tmp_path / "home").mkdir()
    for split in ("train", "test"):
        file = tmp_path / "home" / f"{split}.{suffix}"
        if suffix == "parquet":
            library.Dataset.from_list(rows[split]).to_parquet(file)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows[split]))
    home = HubData(
        path=str(tmp_path / "home"),
        splits={"train": "train", "test": "test"},
        columns={"message": "text"},
    )
    source = hub_source(home, "mine")
    found = rows_of(source, "test")
    assert [row.values for row in found] == [{"text": f"test {n}", "label": n} for n in range(9)]
    assert [row.id for row in found] == [f"test:{n}" for n in range(1, 10)]
    parts = [rows_of(source, split) for split in ("train", "validation")]
    texts = {row.text("text") for part in parts for row in part}
    assert texts == {f"train {n}" for n in range(9)}
    missing = hub_source(HubData(path=str(tmp_path / "home"), splits={"train": "dev"}), "mine")
    with pytest.raises(DataError, match=r"'mine'.*dev"):
        rows_of(missing, "train")
