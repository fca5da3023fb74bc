"""Runs that cannot start and folders that cannot be loaded are refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny import save_tiny

from tunewise.config import RunConfig
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, ModelError, TrainingError
from tunewise.run import run
from tunewise.runs.folder import ADAPTER_FILE
from tunewise.runs.model import load_trained

from .conftest import Start

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train.max_length=49"], r"train\.max_length: 49; the model has 48"),
        (["method=soft_prompt", "train.max_length=13"], r"13 leaves no room .* 12 virtual"),
        (["method=soft_prompt", "method.tokens=48"], r"48 leaves no room .* 48 virtual"),
        (["method.blocks=last-3"], r"method\.blocks: the last 3 .* has 2"),
        (["method={kind: last_blocks, blocks: 3}"], r"method\.blocks: 3 .* has 2"),
    ],
)
def test_what_the_model_does_not_have_is_said_before_anything_is_written(
    start: Start, tmp_path: Path, words: list[str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        start(*words)
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_that_knows_more_than_the_model_is_refused(
    config_of: Callable[..., RunConfig], model_folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_tiny(tmp_path / "small", tokenizer=tokenizer, vocabulary_size=200)
    with pytest.raises(ModelError, match=r"small: .*256.*199"):
        run(config_of(f"model={tmp_path / 'small'}"), out=tmp_path / "run")


def test_a_run_that_diverges_leaves_no_result(start: Start, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="learning rate"):
        start("method=full", "train.optimizer=sgd", "train.learning_rate=1e35")
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("there", ["a file", "a folder with a file", "a finished run"])
def test_a_folder_that_holds_something_is_refused_and_left_alone(
    start: Start, tmp_path: Path, there: str
) -> None:
    out = tmp_path / "run"
    if there == "a file":
        out.write_text("mine")
    elif there == "a finished run":
        start()
    else:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"--out .*run: holds something already"):
        start()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_an_empty_folder_is_used(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert (start().folder / "result.json").is_file()


def test_a_folder_that_cannot_be_made_is_named(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*file/run: cannot be made"):
        start(out="file/run")


def test_without_a_folder_a_run_is_numbered_under_runs(
    config_of: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_of("train.epochs=1")
    folders = [run(config).folder for _ in range(3)]
    assert folders == [Path(f"runs/tiny-custom-lora{end}") for end in ("", "-2", "-3")]


def test_a_folder_that_is_no_run_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: no such file"):
        load_trained(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "truncated", "renamed", "reshaped"])
def test_a_damaged_adapter_is_named(start: Start, damage: str) -> None:
    folder = start().folder
    path = folder / ADAPTER_FILE
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        tensors = load_file(path)
        name = "blocks.0.attention.query.A"
        tensor = tensors.pop(name)
        if damage == "renamed":
            tensors["blocks.0.attention.query.C"] = tensor
        else:
            tensors[name] = tensor[:, :-1].contiguous()
        save_file(tensors, path)
    with pytest.raises(ModelError, match=r"adapter\.safetensors: ") as caught:
        load_trained(folder)
    if damage in ("renamed", "reshaped"):
        assert "blocks.0.attention.query" in str(caught.value)
