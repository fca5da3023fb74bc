"""A run's folder keeps where its rows came from, and what they were."""

import json
from pathlib import Path

import pytest
from tiny import write_splits

from tunewise.config import RunConfig, make_config
from tunewise.data.rows import SPLITS
from tunewise.errors import ConfigError
from tunewise.run import run
from tunewise.runs.folder import CHECKPOINT_FOLDER, CONFIG_FILE, ORIGIN_FILE

from .conftest import StopAt, Stopped, left

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder with rows of sst5."""
    folder = tmp_path / "data"
    write_splits(
        folder / "sst5", lambda s: [{"text": f"{s} {n}", "label": n % 5} for n in range(10)]
    )
    return folder


@pytest.fixture
def config(model_folder: Path) -> RunConfig:
    train = {"epochs": 2, "batch_size": 5, "precision": "fp32", "checkpoint_every": 1}
    return make_config(fields={"model": str(model_folder), "task": "sst5", "train": train})


def change(data: Path, split: str) -> None:
    file = data / "sst5" / f"{split}.jsonl"
    file.write_text(file.read_text().replace(f"{split} 3", "another text"))


def stopped(config: RunConfig, data: Path | None, folder: Path, at: int) -> None:
    with pytest.raises(Stopped):
        run(config, data, folder, StopAt(at))


def test_a_run_goes_on_with_the_data_folder_that_it_was_started_with(
    config: RunConfig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(config, data, tmp_path / "whole")
    monkeypatch.chdir(tmp_path)
    stopped(config, Path("data"), tmp_path / "parts", at=3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    parts = run(make_config(tmp_path / "parts" / CONFIG_FILE), out=tmp_path / "parts", resume=True)
    assert left(parts) == left(whole)
    assert json.loads((parts.folder / ORIGIN_FILE).read_text())["data"] == str(data)


def test_a_run_without_a_folder_of_its_own_name_remembers_too(
    config: RunConfig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Stopped):
        run(config, data, progress=StopAt(2))
    assert run(config, resume=True).folder == Path("runs/tiny-sst5-lora")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("at", [1, 3], ids=["before a checkpoint", "after one"])
def test_rows_that_changed_since_a_run_began_are_refused(
    config: RunConfig, data: Path, tmp_path: Path, split: str, at: int
) -> None:
    stopped(config, data, tmp_path / "run", at)
    assert (tmp_path / "run" / CHECKPOINT_FOLDER).exists() == (at > 1)
    change(data, split)
    with pytest.raises(ConfigError) as caught:
        run(config, out=tmp_path / "run", resume=True)
    assert f"the {split} rows are not those that {tmp_path / 'run'} was" in str(caught.value)
    assert str(data) in str(caught.value)


def test_the_same_rows_may_lie_in_another_folder_by_now(
    config: RunConfig, data: Path, tmp_path: Path
) -> None:
    stopped(config, data, tmp_path / "run", at=2)
    moved = data.rename(tmp_path / "moved")
    stop_again = StopAt(3)
    with pytest.raises(Stopped):
        run(config, moved, tmp_path / "run", stop_again, resume=True)
    run(config, None, tmp_path / "run", resume=True)  # remembers the new place


def test_other_rows_of_a_finished_run_are_told_and_its_result_stays(
    config: RunConfig, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = run(config, data, tmp_path / "run")
    before = (tmp_path / "run" / ORIGIN_FILE).read_text()
    change(data, "test")
    again = run(config, data, tmp_path / "run", resume=True)
    assert again.result == first.result
    assert "the test rows are not those that" in caplog.text
    assert (tmp_path / "run" / ORIGIN_FILE).read_text() == before


def test_a_run_of_an_earlier_version_goes_on(config: RunConfig, data: Path, tmp_path: Path) -> None:
    whole = run(config, data, tmp_path / "whole")
    stopped(config, data, tmp_path / "parts", at=3)
    (tmp_path / "parts" / ORIGIN_FILE).unlink()
    change(data, "test")
    with pytest.raises(ConfigError, match="the test rows are not those"):  # by its checkpoint
        run(config, data, tmp_path / "parts", resume=True)
    file = data / "sst5" / "test.jsonl"
    file.write_text(file.read_text().replace("another text", "test 3"))
    assert left(run(config, data, tmp_path / "parts", resume=True)) == left(whole)


def test_a_run_killed_before_it_had_a_configuration_is_begun(
    config: RunConfig, data: Path, tmp_path: Path
) -> None:
    stopped(config, data, tmp_path / "run", at=1)
    for path in (tmp_path / "run").iterdir():
        if path.name != ORIGIN_FILE:
            path.unlink()
    run(config, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"data": 3}', '{"rows": {"dev": "x"}}', "{}x"])
def test_a_file_that_no_run_writes_is_named(
    config: RunConfig, data: Path, tmp_path: Path, text: str
) -> None:
    stopped(config, data, tmp_path / "run", at=1)
    (tmp_path / "run" / ORIGIN_FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"origin\.json: not as a run leaves it"):
        run(config, data, tmp_path / "run", resume=True)
