"""Broken models and tokenizers."""

import json
import random
import shutil
import struct
from pathlib import Path

import pytest
import torch

from tunewise.data.tokenizer import Tokenizer
from tunewise.models.folder import load_model

from .breaking import as_json, safetensors_broken
from .fuzzing import fuzz

pytestmark = pytest.mark.slow


@torch.no_grad()
def test_safetensors_headers(tmp_path: Path, model_folder: Path) -> None:
    content = (model_folder / "model.safetensors").read_bytes()

    def broken(chance: random.Random, folder: Path) -> None:
        shutil.copy(model_folder / "config.json", folder)
        (folder / "model.safetensors").write_bytes(safetensors_broken(chance, content))

    def read(folder: Path, _: random.Random) -> None:
        load_model(folder).set_precision(torch.float32)

    fuzz("safetensors", 0.2, tmp_path, broken, read)


def test_model_configurations(tmp_path: Path, model_folder: Path) -> None:
    values = json.loads((model_folder / "config.json").read_text())
    names = [name for name in _header_names(model_folder / "model.safetensors")]
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    neo = {
        **{
            "model_type": "gpt_neo",
            "vocab_size": 257,
            "max_position_embeddings": 48,
            "num_layers": 2,
        },
        **{"hidden_size": 16, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    }

    def broken(chance: random.Random, folder: Path) -> None:
        shutil.copy(model_folder / "model.safetensors", folder)
        which = chance.randrange(3)
        config = values if which else neo
        text = json.dumps(values).encode() if which == 1 else as_json(chance, config)
        (folder / "config.json").write_bytes(text)
        if which == 1:
            (folder / "model.safetensors.index.json").write_bytes(as_json(chance, index))

    fuzz("config.json", 0.1, tmp_path, broken, lambda folder, _: load_model(folder))


def _header_names(path: Path) -> list[str]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return [name for name in json.loads(content[8 : 8 + length]) if name != "__metadata__"]


def test_tokenizers(tmp_path: Path, model_folder: Path) -> None:
    whole = json.loads((model_folder / "tokenizer.json").read_text())
    named = json.loads((model_folder / "tokenizer_config.json").read_text())

    def broken(chance: random.Random, folder: Path) -> None:
        sound = chance.random() < 0.2
        text = json.dumps(whole).encode() if sound else as_json(chance, whole)
        (folder / "tokenizer.json").write_bytes(text)
        text = as_json(chance, named) if sound else json.dumps(named).encode()
        (folder / "tokenizer_config.json").write_bytes(text)

    def read(folder: Path, _: random.Random) -> None:
        tokenizer = Tokenizer.load(folder)
        ids = tokenizer.tokenize(["a good film", "", "naïve 🎬\0"])
        assert all(0 <= i < tokenizer.size for some in ids for i in some)
        tokenizer.decode(ids[0])

    fuzz("tokenizer.json", 0.04, tmp_path, broken, read)
