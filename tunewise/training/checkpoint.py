"""What a run needs to go on as if it had never been stopped, in one file.

A checkpoint is written beside the one before it and only then takes its place in the row, so there
is a good one at any moment. Its name holds a hash of its content: what was cut short or has changed
on the disk is told by its name, and the one before it is taken.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tunewise.errors import ConfigError
from tunewise.files import sync, temporary_file
from tunewise.models import LanguageModel
from tunewise.models.weights import opened
from tunewise.training.best import BestState
from tunewise.training.optimizer import Optimizer

logger = logging.getLogger(__name__)

NUM_KEPT = 2
CHUNK = 2**24
OF_THE_BEST = ("value", "step", "epoch", "evaluations_since")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two updates."""

    number: int
    """How many updates have been made."""
    tensors: dict[str, Tensor]
    values: dict[str, Any]
    """What the run wants to know again, as JSON has it."""


def take(
    number: int,
    model: LanguageModel,
    optimizer: Optimizer,
    best: BestState,
    values: Mapping[str, Any],
) -> Checkpoint:
    """Return the state of a run after some updates."""
    tensors = {f"weights.{name}": p.detach() for name, p in model.trainable()}
    tensors |= {f"best.{name}": weight for name, weight in best.weights.items()}
    for index, state in enumerate(optimizer.states):
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    tensors["chance"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["chance.cuda"] = torch.cuda.get_rng_state()
    kept = {field: getattr(best, field) for field in OF_THE_BEST}
    return Checkpoint(number, tensors, {**values, "best": kept})


@torch.no_grad()
def restore(
    checkpoint: Checkpoint,
    model: LanguageModel,
    optimizer: Optimizer,
    best: BestState,
) -> None:
    """Put a state back, all of it: the next update is what it would have been."""
    tensors = checkpoint.tensors
    for name, parameter in model.trainable():
        parameter.copy_(tensors[f"weights.{name}"])
    device = next(model.parameters()).device
    best.weights = {
        name.removeprefix("best."): tensor.to(device)
        for name, tensor in tensors.items()
        if name.startswith("best.")
    }
    for field in OF_THE_BEST:
        setattr(best, field, checkpoint.values["best"][field])
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load(state)
    torch.set_rng_state(tensors["chance"])
    if "chance.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["chance.cuda"])


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint into a folder and drop all but the last two.

    Raises:
        OSError: if it cannot be written, with those before it left as they are.
    """
    folder.mkdir(exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    values = {"values": json.dumps(checkpoint.values), "number": str(checkpoint.number)}
    with temporary_file(folder / "writing.part") as temporary:
        try:
            save_file(tensors, temporary, metadata=values)
        except SafetensorError as error:  # safetensors has its own for the system's
            raise OSError(str(error)) from error
        sync(temporary)
        temporary.replace(folder / f"{checkpoint.number:09}-{_digest(temporary)}.safetensors")
    sync(folder)
    for old in _all(folder)[NUM_KEPT:]:
        old.unlink()


def read_last(folder: Path) -> Checkpoint | None:
    """Return the last sound checkpoint of a folder; None if there is none.

    One that was damaged is passed over, and said aloud.

    Raises:
        TunewiseError: if the file is whole, and no checkpoint.
    """
    for path in _all(folder):
        if _digest(path) != path.stem.partition("-")[2]:
            logger.warning("%s: damaged, so the checkpoint before it is taken", path)
            continue
        with opened(path) as file:
            values = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        try:
            return Checkpoint(int(values["number"]), tensors, json.loads(values["values"]))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not a checkpoint of a run: {error!r}") from error
    return None


def _all(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the last first."""
    return sorted(folder.glob("*-*.safetensors"), reverse=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:32]
