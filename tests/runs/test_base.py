"""A run whose base model has changed or moved since it was trained is not read in silence."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunewise.config import make_config
from tunewise.errors import ModelError
from tunewise.interop import export
from tunewise.run import run
from tunewise.runs.model import load_trained


@pytest.fixture
def base(model_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model_folder, tmp_path / "base")


@pytest.fixture
def trained(base: Path, rows: Path, tmp_path: Path) -> Path:
    task = {"kind": "classification", "path": str(rows)}
    fields = {"model": str(base), "task": task, "method": "lora", "train": {"epochs": 1}}
    return run(make_config(fields=fields), out=tmp_path / "run").folder


def test_a_base_that_has_changed_is_told_when_its_run_is_read(
    trained: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_trained(trained)
    assert "not those that it was trained on" not in caplog.text
    path = base / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.ln_f.bias"] += 1
    save_file(tensors, path)
    export(trained, "hf", tmp_path / "out")
    assert f"the weights in {base} are not those that it was trained on" in caplog.text


def test_a_base_that_has_moved_is_found_where_the_configuration_then_says(
    trained: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_trained(trained).model.state_dict()
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=f"{base}, is not there any more.* as `model` in") as told:
        load_trained(trained)
    config = trained / "config.yaml"
    assert str(config) in str(told.value)
    config.write_text(config.read_text("utf-8").replace(str(base), str(moved)), "utf-8")
    after = load_trained(trained).model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert "not those that it was trained on" not in caplog.text
