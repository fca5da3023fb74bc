"""A folder that cannot be written is named in one line."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.files import write_whole
from tunewise.interop import export
from tunewise.models.folder import load_model
from tunewise.predict_file import predict_file
from tunewise.reports.report import write_report
from tunewise.run import run
from tunewise.runs.folder import (
    LOCK_FILE,
    METRICS_FILE,
    append_line,
    locked,
)
from tunewise.runs.model import save_trained
from tunewise.settings import validate
from tunewise.studies.runner import open_folder, run_study
from tunewise.studies.study import Study

from .conftest import EVALUATION, Copy, MakeRun, refusal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_the_cpu")]


# --- what may not be written


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that has the system refuse to write into a folder, as it does no root."""

    def refuse(folder: Path) -> None:
        opened = io.open

        def guarded(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            inside = isinstance(file, (str, Path)) and Path(file).is_relative_to(folder)
            if inside and set(mode) & set("wax+"):
                raise OSError(30, "Read-only file system", str(file))
            return opened(file, mode, *args, **kwargs)

        monkeypatch.setattr(io, "open", guarded)
        monkeypatch.setattr("builtins.open", guarded)

    return refuse


def test_a_folder_that_may_only_be_read_is_told_in_one_line(
    finished: MakeRun,
    stopped: Path,
    study: Path,
    copy: Copy,
    read_only: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    folders = [copy(stopped), copy(study)]
    config = make_config(folders[0] / "config.yaml")
    done = finished("lora")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a good film"}\n')
    (tmp_path / "new").mkdir()
    read_only(tmp_path)
    for call in (
        lambda: run(config, out=folders[0], resume=True),
        lambda: run(config, out=tmp_path / "new"),
        lambda: run_study(validate(Study, yaml_of(folders[1]), "test"), folders[1], None, 1, print),
        lambda: write_report(folders[1]),
        lambda: predict_file(done, rows, tmp_path / "predictions.jsonl"),
        lambda: append_line(folders[0] / METRICS_FILE, EVALUATION),
        lambda: write_whole(folders[0] / "x", "x"),
    ):
        message = refusal(call)
        assert str(tmp_path) in message
        assert "Read-only file system" in message


def yaml_of(folder: Path) -> Any:
    return yaml.safe_load((folder / "study.yaml").read_text())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_that_cannot_be_written_are_told_in_one_line(
    finished: MakeRun, model_folder: Path, tmp_path: Path, method: str
) -> None:
    config = make_config(finished(method) / "config.yaml")
    model, tokenizer = load_model(model_folder), Tokenizer.load(model_folder)
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="cannot be written"):
            save_trained(model, config, folder, tokenizer)


def test_a_folder_below_a_file_cannot_be_made(
    finished: MakeRun, study: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    below = tmp_path / "file" / "below"
    config = make_config(finished("lora") / "config.yaml")
    for call in (
        lambda: run(config, out=below),
        lambda: export(finished("lora"), "peft", below),
        lambda: open_folder(below, resume=False),
        lambda: write_report(study, below / "report.html"),
    ):
        assert str(tmp_path / "file") in refusal(call)


def test_a_link_where_a_file_is_written_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt", "a.txt.part", LOCK_FILE):
        (folder / name).symlink_to(outside)
    write_whole(folder / "a.txt", "theirs")
    with locked(folder):
        pass
    assert outside.read_text() == "mine"
    assert (folder / "a.txt").read_text() == "theirs"
    assert not (folder / "a.txt").is_symlink()
    assert not os.path.lexists(folder / "a.txt.part")
