"""Checkpoints: one file each, from which a run resumes as if it had never been stopped.

A checkpoint is written completely before an older one is deleted, so there is a good one at any
moment. Its name holds a hash of its content: a file that was cut short or has
changed on the disk does not match its name, and the one before it is used.
"""

import hashlib
import json
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tunewise.errors import ConfigError
from tunewise.files import sync, temporary_file
from tunewise.json_text import to_json
from tunewise.models import LanguageModel
from tunewise.models.weights import opened
from tunewise.training.best import BestState
from tunewise.training.loop import Number
from tunewise.training.optimizers import Optimizer

logger = logging.getLogger(__name__)

NUM_KEPT = 2
LOG = "log"
"""Name of the tensor with the bytes of the log, compressed."""
MAX_LOG_BYTES = 2**30
CHUNK_BYTES = 2**24


class CheckpointRecord(BaseModel):
    """Base class of the values in a checkpoint, beside its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BestRecord(CheckpointRecord):
    """The best state in a checkpoint, without its weights and metrics."""

    value: Number
    step: int
    epoch: int
    evaluations_since: int


class RunState(CheckpointRecord):
    """The state of a run in a checkpoint, without tensors."""

    rows: dict[str, str]
    """The fingerprint of each split's rows."""
    run: str = ""
    """The id of the run; none in checkpoints of earlier versions."""
    config: str = ""
    """The fingerprint of the run's configuration; none in checkpoints of earlier versions."""
    validation: dict[str, Number]
    """The validation metrics of the best state."""
    evaluation_seconds: float
    """The seconds spent on evaluations."""
    best: BestRecord


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two updates."""

    number: int
    """Number of updates that have been made."""
    tensors: dict[str, Tensor]
    state: RunState

    @property
    def log(self) -> str | None:
        """The content of metrics.jsonl until then; None in checkpoints of earlier versions.

        Raises:
            ValueError: if it is not as a run writes it.
        """
        if LOG not in self.tensors:
            return None
        packed = zlib.decompressobj()
        content = packed.decompress(self.tensors[LOG].numpy().tobytes(), MAX_LOG_BYTES)
        if not packed.eof:
            raise ValueError("its log is cut short, or far too long")
        return content.decode("utf-8")


@dataclass(frozen=True)
class Identity:
    """The rows, run and settings by which a checkpoint is known to be of a run."""

    rows: dict[str, str]
    """The fingerprint of each split's rows."""
    run: str
    """The id of the run."""
    config: str
    """The fingerprint of all settings that decide its results."""


def snapshot(
    number: int,
    model: LanguageModel,
    optimizer: Optimizer,
    best: BestState,
    identity: Identity,
    evaluation_seconds: float,
    log: str,
) -> Checkpoint:
    """Return the state of a run after some updates.

    Args:
        number: how many updates have been made.
        log: what the run has written to metrics.jsonl.
    """
    tensors = {f"weights.{name}": p.detach() for name, p in model.trainable()}
    tensors |= {f"best.{name}": weight for name, weight in best.weights.items()}
    for index, moments in enumerate(optimizer.states):
        tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
    tensors["chance"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["chance.cuda"] = torch.cuda.get_rng_state()
    tensors[LOG] = torch.frombuffer(bytearray(zlib.compress(log.encode())), dtype=torch.uint8)
    kept = BestRecord(
        value=best.value,
        step=best.step,
        epoch=best.epoch,
        evaluations_since=best.evaluations_since,
    )
    state = RunState(
        rows=identity.rows,
        run=identity.run,
        config=identity.config,
        validation=best.metrics,
        evaluation_seconds=evaluation_seconds,
        best=kept,
    )
    return Checkpoint(number, tensors, state)


@torch.no_grad()
def restore(
    checkpoint: Checkpoint,
    model: LanguageModel,
    optimizer: Optimizer,
    best: BestState,
) -> None:
    """Put a whole state back: the next update is then the same as without a stop."""
    tensors, kept = checkpoint.tensors, checkpoint.state.best
    for name, parameter in model.trainable():
        parameter.copy_(tensors[f"weights.{name}"])
    device = next(model.parameters()).device
    best.weights = {
        name.removeprefix("best."): tensor.to(device)
        for name, tensor in tensors.items()
        if name.startswith("best.")
    }
    best.value, best.step, best.epoch = kept.value, kept.step, kept.epoch
    best.evaluations_since = kept.evaluations_since
    best.metrics = dict(checkpoint.state.validation)
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            states.setdefault(int(index), {})[key] = tensor
    optimizer.load(states)
    torch.set_rng_state(tensors["chance"])
    if "chance.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["chance.cuda"])


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint into a folder and delete all but the last two.

    Raises:
        OSError: if it cannot be written, with those before it left as they are.
    """
    folder.mkdir(exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    state = to_json(checkpoint.state.model_dump())
    values = {"values": state, "number": str(checkpoint.number)}
    with temporary_file(folder / "writing.part") as temporary:
        try:
            save_file(tensors, temporary, metadata=values)
        except SafetensorError as error:  # safetensors raises its own error for one of the system
            raise OSError(str(error)) from error
        sync(temporary)
        temporary.replace(folder / f"{checkpoint.number:09}-{_digest(temporary)}.safetensors")
    sync(folder)
    for old in _all(folder)[NUM_KEPT:]:
        old.unlink()


def read_last(folder: Path) -> Checkpoint | None:
    """Return the last sound checkpoint of a folder; None if there is none.

    A damaged one is skipped, with a warning.

    Raises:
        TunewiseError: if the file is undamaged, and not a checkpoint.
    """
    for path in _all(folder):
        if _digest(path) != path.stem.partition("-")[2]:
            logger.warning("%s: damaged, so the checkpoint before it is used", path)
            continue
        with opened(path) as file:
            values = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        try:
            state = RunState.model_validate(json.loads(values["values"]))
            return Checkpoint(int(values["number"]), tensors, state)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not a checkpoint of this run: {error!r}") from error
    return None


def last_number(folder: Path) -> int | None:
    """Return the update of the last checkpoint by its file's name, which is not opened."""
    return max((int(path.stem.partition("-")[0]) for path in _all(folder)), default=None)


def _all(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the last first."""
    return sorted(folder.glob("*-*.safetensors"), reverse=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()[:32]
