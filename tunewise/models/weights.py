"""Files of weights, in safetensors only: no file can run code. And the JSON files beside them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tunewise.errors import ModelError
from tunewise.files import check_regular
from tunewise.models.other_kinds import describe

LANGUAGE_HEAD = "lm_head.weight"
LABEL_HEAD = "score.weight"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("F32", "F16", "BF16")
MAX_HEADER = 2**23
"""Largest header, in bytes: some 100,000 tensors. One of millions would fill the memory."""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; its library checks sizes, bounds and overlaps.

    Raises:
        ModelError: if it is missing or not sound, now or when a tensor is read.
    """
    try:
        check_regular(path)
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
            if not_finite(tensors[name]):
                raise ModelError(
                    f"{path}: tensor {name!r} holds NaN or infinity; its training did not succeed"
                )
    return tensors


def not_finite(tensor: Tensor) -> bool:
    """Return whether any number of a tensor is NaN or infinite."""
    # A sum is twice as fast as a look at each number; it may be too large where no number is.
    if tensor.is_meta:
        return False
    return not torch.isfinite(tensor.sum()) and not bool(torch.isfinite(tensor).all())


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelError: if it is missing or holds anything else.
    """
    try:
        check_regular(path)
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
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise ModelError(f"{folder}: no {WEIGHTS}; {describe(folder)}")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
        raise ModelError(f"{index}: not an index of shards")
    names = sorted(set(shards.values()))
    present = {path.name for path in folder.glob("*.safetensors")}
    if missing := [name for name in names if name not in present]:
        raise ModelError(
            f"{folder}: {INDEX} names {missing[0]!r}, which is not there as a safetensors file"
        )
    return [folder / name for name in names]


def has_weights(folder: Path) -> bool:
    """Return whether all weights are in a folder."""
    try:
        return bool(weight_files(folder))
    except ModelError:
        return False
