"""Broken adapters and runs."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunewise.config import RunConfig
from tunewise.data.tokenizer import Tokenizer
from tunewise.methods import METHODS, Method
from tunewise.predict import load
from tunewise.runs.folder import read_predictions, read_result
from tunewise.runs.model import adapted_model
from tunewise.settings import validate

from .breaking import as_json, bytes_broken, safetensors_broken
from .fuzzing import fuzz

pytestmark = pytest.mark.slow

IN_PEFT = [kind for kind, method in METHODS.items() if method.to_peft is not Method.to_peft]


@pytest.mark.parametrize("liar", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("method", IN_PEFT)
def test_adapter_folders(
    tmp_path: Path,
    method: str,
    liar: str,
    model_folder: Path,
    rows: Path,
    exported: Callable[[str], Path],
) -> None:
    source = exported(method)
    values = json.loads((source / "adapter_config.json").read_text())
    content = (source / "adapter_model.safetensors").read_bytes()
    tokenizer = Tokenizer.load(model_folder)
    task = {"kind": "classification", "path": str(rows), "labels": {"good": "good", "bad": "bad"}}

    def broken(chance: random.Random, folder: Path) -> None:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(source / name, folder)
        is_config = liar == "adapter_config.json"
        lie = as_json(chance, values) if is_config else safetensors_broken(chance, content)
        (folder / liar).write_bytes(lie)

    def read(folder: Path, _: random.Random) -> None:
        method_of_folder = {"kind": method, "from": folder}
        fields = {"model": str(model_folder), "task": task, "method": method_of_folder}
        config = validate(RunConfig, fields, "fuzz")
        adapted_model(config, model_folder, tokenizer).set_precision(torch.float32)

    fuzz(f"{liar} of {method}", 0.06 / len(IN_PEFT), tmp_path, broken, read)


def test_run_folders(tmp_path: Path, finished: Callable[[str], Path]) -> None:
    source = finished("lora")
    content = (source / "adapter" / "adapter.safetensors").read_bytes()

    def broken(chance: random.Random, folder: Path) -> None:
        for name in ("config.yaml", "result.json", "predictions.jsonl"):
            (folder / name).write_bytes((source / name).read_bytes())
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter.safetensors").write_bytes(content)
        which = chance.randrange(4)
        if which == 0:
            (folder / "adapter" / "adapter.safetensors").write_bytes(
                safetensors_broken(chance, content)
            )
        elif which == 1:
            result = json.loads((source / "result.json").read_text())
            (folder / "result.json").write_bytes(as_json(chance, result))
        else:
            name = "config.yaml" if which == 2 else "predictions.jsonl"
            (folder / name).write_bytes(bytes_broken(chance, (source / name).read_bytes()))

    def read(folder: Path, _: random.Random) -> None:
        read_result(folder)
        read_predictions(folder / "predictions.jsonl")
        load(folder).predict([{"text": "a good film"}])

    fuzz("run folder", 0.04, tmp_path, broken, read)
