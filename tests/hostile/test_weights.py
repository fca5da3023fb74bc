"""Weights and shapes that lie are refused before anything is built or read."""

import json
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunewise.errors import ModelError
from tunewise.models.folder import find_folder, load_model, read_config
from tunewise.models.weights import MAX_HEADER, read_tensors

Copy = Callable[[Path], Path]
Header = dict[str, Any]


def message(folder: Path) -> str:
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert time.process_time() - start < 2
    return str(caught.value)


def with_header(path: Path, change: Callable[[Header], Any]) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def lie(**fields: Any) -> Callable[[Header], Any]:
    return lambda header: header["transformer.wpe.weight"].update(fields)


def overlap(header: Header) -> None:
    header["transformer.wpe.weight"]["data_offsets"] = header["transformer.wte.weight"][
        "data_offsets"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lie(data_offsets=[0, 2**40]),
        lie(data_offsets=[-1, 4]),
        lie(data_offsets=[8, 4]),
        lie(data_offsets=[2**64, 2**64 + 4]),
        overlap,
        lie(shape=[2**62, 16]),
        lie(shape=[-48, -16]),
        lie(shape=[48, 15]),
        lie(shape=["48", 16]),
        lie(dtype="F32 "),
        lie(dtype=None),
        lambda header: header.update({"transformer.wpe.weight": None}),
        lambda header: header.update({"__metadata__": {"format": 1}}),
    ],
)
def test_a_header_that_contradicts_itself_or_the_file_is_refused(
    model_folder: Path, copy: Copy, change: Callable[[Header], Any]
) -> None:
    folder = copy(model_folder)
    with_header(folder / "model.safetensors", change)
    assert "not a sound safetensors file" in message(folder)


@pytest.mark.parametrize("dtype", ["F64", "I32", "F8_E4M3"])
def test_weights_that_are_no_floats_we_know_are_refused(
    model_folder: Path, copy: Copy, dtype: str
) -> None:
    folder = copy(model_folder)
    bytes_each = {"F64": 8, "I32": 4, "F8_E4M3": 1}[dtype]
    shape = [48 * 4 // bytes_each, 16]
    with_header(folder / "model.safetensors", lie(dtype=dtype, shape=shape))
    assert "transformer.wpe.weight" in message(folder)


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER + 1, 2**40, 2**63, 2**64 - 1])
def test_the_size_of_a_header_is_not_believed(model_folder: Path, copy: Copy, length: int) -> None:
    folder = copy(model_folder)
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    assert str(path) in message(folder)


def test_a_header_of_a_million_tensors_is_not_read(model_folder: Path, copy: Copy) -> None:
    folder = copy(model_folder)
    entry = '"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(entry % number for number in range(300_000)) + "}"
    assert len(text) > MAX_HEADER
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    assert "a header of" in message(folder)


def test_a_shape_that_no_library_can_hold_is_refused(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F32", "shape": [0, 2**64 - 1], "data_offsets": [0, 0]}}
    text = json.dumps(header).encode()
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelError, match="tensor 'a' holds F32 of shape"):
        read_tensors(path)


SIZES = ["vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "n_inner"]


@pytest.mark.parametrize("field", SIZES)
@pytest.mark.parametrize("value", [-1, True, "8", 2.0, 10**9, 2**63, 10**400, [8], {}, 1e308])
def test_a_size_that_is_none_is_refused_before_the_model_is_built(
    model_folder: Path, copy: Copy, field: str, value: Any
) -> None:
    folder = copy(model_folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {field: value}))
    assert "config.json" in message(folder)


@pytest.mark.parametrize("field", ["vocab_size", "n_positions", "n_layer", "n_embd"])
def test_a_size_that_the_weights_do_not_have_is_refused(
    model_folder: Path, copy: Copy, field: str
) -> None:
    folder = copy(model_folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {field: values[field] * 2}))
    assert "tensor" in message(folder)


@pytest.mark.parametrize(
    "layers",
    [
        [[["global"], 10**12]],
        [[[], 10**12], [["global"], 2]],
        [[["global", "local"], 1]] * 5000,
        [[["sideways"], 2]],
        [[["global"], -1]],
        [[["global"], "2"]],
        [["global"]],
        "global",
        None,
    ],
)
def test_kinds_of_attention_without_end_are_refused(tmp_path: Path, layers: Any) -> None:
    values = {
        "model_type": "gpt_neo",
        "vocab_size": 257,
        "max_position_embeddings": 48,
        "hidden_size": 16,
        "num_heads": 2,
        "num_layers": 4,
        "attention_types": layers,
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    start = time.process_time()
    with pytest.raises(Exception, match=r"config\.json") as caught:
        read_config(tmp_path)
    assert time.process_time() - start < 1
    assert type(caught.value).__module__ == "tunewise.errors"


@pytest.mark.parametrize(
    "name",
    [
        *("../model.safetensors", "/etc/passwd", "sub/model.safetensors", ".", "..", ""),
        *("a\0.safetensors", "x" * 5000 + ".safetensors", "pytorch_model.bin", 7, None, ["a"]),
    ],
)
def test_an_index_names_safetensors_files_beside_it_or_nothing(
    model_folder: Path, copy: Copy, name: Any
) -> None:
    folder = copy(model_folder)
    (folder / "sub").mkdir()
    for place in (folder / "sub", folder.parent):
        (place / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"")
    index = {"weight_map": {"transformer.wte.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "index" in message(folder)


class Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('a pickle was opened')",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_a_pickle_is_refused_by_name_and_never_opened(
    model_folder: Path, copy: Copy, name: str
) -> None:
    folder = copy(model_folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    assert f"{name} is a pickle" in message(folder)


def test_a_pickle_that_is_called_safetensors_is_never_opened_as_one(
    model_folder: Path, copy: Copy
) -> None:
    folder = copy(model_folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    assert "model.safetensors" in message(folder)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800", "a/b/c", "", "\x1b[2J"])
def test_a_model_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no model") as caught:
        find_folder(name)
    assert str(caught.value).isprintable()


def test_json_of_any_depth_is_refused(model_folder: Path, copy: Copy) -> None:
    folder = copy(model_folder)
    (folder / "config.json").write_text('{"a":' * 100_000)
    assert "not readable as JSON" in message(folder)
