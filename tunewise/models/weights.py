"""Weights of Hugging Face checkpoints, in safetensors only: no file can run code.

Foreign conventions end here: GPT-2's fused and transposed matrices are split and transposed when
they are read, and fused and transposed again when they are written.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tunewise.errors import ModelError
from tunewise.models.language_model import LanguageModel
from tunewise.models.names import TensorName

LANGUAGE_HEAD = "lm_head.weight"
LABEL_HEAD = "score.weight"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("F32", "F16", "BF16")
MAX_HEADER = 2**23
"""Largest header, in bytes: some 100,000 tensors. One of millions would fill the memory."""


def read_weights(model: LanguageModel, folder: Path, keep_label_head: bool = False) -> None:
    """Put the tensors of a checkpoint folder into a model, which may be on the meta device.

    Nothing is copied: each parameter is a view, which may be transposed, into a mapping of the file
    of its own. Its pages are read when `set_precision` converts it to the compute precision, and
    are freed with it, so that a file and its converted copy are never in memory together.

    Args:
        keep_label_head: whether the model is a classifier whose label layer is in the checkpoint;
            without it, a label layer in the checkpoint is left alone.

    Raises:
        ModelError: if a file is missing or damaged, or a tensor missing, unexpected or misshapen.
    """
    tensors = list(model.stored_tensors())
    if keep_label_head:
        tensors.append(TensorName(LABEL_HEAD, ("head.weight",)))
    elif not model.config.tied:
        tensors.append(TensorName(LANGUAGE_HEAD, ("head.weight",)))
    where = _files_of_tensors(folder, model.name_prefix)
    for stored in tensors:
        if stored.theirs not in where:
            raise ModelError(f"{folder}: tensor {stored.theirs!r} is missing")
        key, path = where.pop(stored.theirs)
        with safe_open(path, framework="pt") as file:
            _read(model, stored, file.get_slice(key), f"{folder}: tensor {key!r}")
    if unexpected := [name for name in where if not model.ignores(name)]:
        raise ModelError(
            f"{folder}: unexpected tensor {unexpected[0]!r} ({len(unexpected)} in all); "
            f"config.json says this is {model.config.family} with "
            f"{model.config.num_layers} layers"
        )
    if model.config.tied and not keep_label_head:
        model.tie_head()


def write_weights(model: LanguageModel, file: Path) -> None:
    """Write a model's weights as Hugging Face names them; a tied output layer is left out."""
    tensors: dict[str, Tensor] = {}
    for stored in model.stored_tensors():
        whole = torch.cat([model.dense(name).detach() for name in stored.ours])
        tensors[model.name_prefix + stored.theirs] = whole.T if stored.transposed else whole
    if model.num_labels is not None:
        tensors[LABEL_HEAD] = model.dense("head.weight").detach()
    elif not model.head_is_tied:
        tensors[LANGUAGE_HEAD] = model.dense("head.weight").detach()
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, file, metadata={"format": "pt"})


def _read(model: LanguageModel, stored: TensorName, stored_slice: Any, where: str) -> None:
    """Check one tensor's type and shape, and set the parameters that it holds."""
    expected = [model.get_parameter(name) for name in stored.ours]
    shape = [sum(p.shape[0] for p in expected), *expected[0].shape[1:]]
    shape = shape[::-1] if stored.transposed else shape
    if stored_slice.get_shape() != shape:
        found = stored_slice.get_shape()
        raise ModelError(f"{where} has shape {found}; config.json requires {shape}")
    if stored_slice.get_dtype() not in FLOATS:
        raise ModelError(f"{where} holds {stored_slice.get_dtype()}; F32, F16 or BF16 is needed")
    tensor = stored_slice[:]
    tensor = tensor.T if stored.transposed else tensor
    parts = tensor.split([p.shape[0] for p in expected])
    for name, part in zip(stored.ours, parts, strict=True):
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, nn.Parameter(part))


def _files_of_tensors(folder: Path, name_prefix: str) -> dict[str, tuple[str, Path]]:
    """Return every tensor by its name without the name prefix: its full name and its file."""
    where: dict[str, tuple[str, Path]] = {}
    for path in weight_files(folder):
        with opened(path) as file:
            keys = list(file.keys())
        where |= {key.removeprefix(name_prefix): (key, path) for key in keys}
    return where


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; its library checks sizes, bounds and overlaps.

    Raises:
        ModelError: if it is missing or not sound, now or when a tensor is read.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise ModelError(
                f"{path}: a header of {length:,} bytes; at most {MAX_HEADER:,} are allowed"
            )
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a sound safetensors file: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file, which must be finite floating-point numbers.

    Raises:
        ModelError: if the file is missing or not sound, or a tensor is anything else.
    """
    with opened(path) as file:
        tensors = {}
        for name in file.keys():  # noqa: SIM118  # it is no mapping
            part = file.get_slice(name)
            if part.get_dtype() not in FLOATS or 0 in part.get_shape():
                found = f"{part.get_dtype()} of shape {part.get_shape()}"
                raise ModelError(f"{path}: tensor {name!r} holds {found}; numbers are needed")
            tensors[name] = file.get_tensor(name)
            if not torch.isfinite(tensors[name]).all():
                raise ModelError(f"{path}: tensor {name!r} holds NaN or infinity")
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelError: if it is missing or holds anything else.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; a model folder needs it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}; an object is needed")
    return values


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint folder: one, or the shards of its index.

    Raises:
        ModelError: if there is none, or a shard is missing.
    """
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
            raise ModelError(f"{folder / INDEX}: not an index of shards")
        names = sorted(set(shards.values()))
        present = {path.name for path in folder.glob("*.safetensors")}
        if missing := [name for name in names if name not in present]:
            raise ModelError(
                f"{folder}: {INDEX} names {missing[0]!r}, which is not there as a safetensors file"
            )
        return [folder / name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    pickled = [
        p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern)
    ]
    if pickled:
        raise ModelError(
            f"{folder}: {pickled[0]} is a pickle, which can run any code when it is opened; "
            "convert it to model.safetensors (in transformers: save_pretrained)"
        )
    raise ModelError(f"{folder}: no {WEIGHTS}")
