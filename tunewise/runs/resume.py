"""Resuming a run: checkpoints are written, restored, and refused if they are another run's."""

import hashlib
import logging
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from tunewise.config import make_config, write_yaml
from tunewise.data.encode import EncodedSplit
from tunewise.data.rows import Split
from tunewise.errors import ConfigError
from tunewise.files import write_whole
from tunewise.json_text import to_json
from tunewise.models import LanguageModel
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    METRICS_FILE,
    Line,
    append_line,
    lines_of_text,
    read_lines,
    read_result,
    text_of_lines,
)
from tunewise.runs.lengthen import LENGTH, differs_in_length, lengthen, with_length_of
from tunewise.runs.origin import Origin, origin_of, read_origin, write_origin
from tunewise.runs.prepare import Prepared
from tunewise.training import checkpoint
from tunewise.training.best import BestState
from tunewise.training.checkpoint import Checkpoint, Identity, RunState
from tunewise.training.config import TrainConfig
from tunewise.training.loop import Step, updates_per_epoch
from tunewise.training.optimizers import Optimizer
from tunewise.training.parallel import is_main

logger = logging.getLogger(__name__)

MUCH_SECONDS = 60.0
"""Time of training that is worth a checkpoint at its end."""


def begin_or_resume(prepared: Prepared, data: Path | None, folder: Path) -> None:
    """Write the configuration of a new run, and where its rows are from; check a resumed one.

    A run that is resumed has the configuration and the rows that it was started with. Only its
    length may be another; see `lengthen`.

    Args:
        data: the data folder that was given.

    Raises:
        ConfigError: if the folder's run has another configuration, whose first difference is
            shown, or other rows.
    """
    path, origin = folder / CONFIG_FILE, origin_of(data, prepared.examples)
    if not path.is_file():
        origin = origin.model_copy(update={"run": uuid4().hex})
        write_origin(origin, folder)  # first: a folder with a configuration is that of a run
        write_yaml(prepared.config, path)
        return
    there, here = make_config(path).deciding, prepared.config.deciding
    same_length = there == here
    if not (same_length or differs_in_length(there, here)):
        # A longer run is no mistake: what else differs is named first.
        as_long = with_length_of(there, here)
        difference = _difference(there, here if as_long == there else as_long)
        raise ConfigError(
            f"--resume: {folder} was started with {difference}; --resume with nothing but --out "
            f"continues it, another --out begins a new run (from its weights: --from {folder}, "
            "once it has finished)"
        )
    is_known = _check_origin(origin, folder, must_agree=not same_length)
    if not same_length:
        sequences = prepared.encoded["train"].sequences
        num_units = len(here.train.objective.units(sequences))
        lengthen(folder, prepared.config, updates_per_epoch(num_units, here.train))
    if is_known:  # the rows may lie in another folder now
        kept = read_origin(folder)
        write_origin(origin.model_copy(update={"run": kept.run if kept else ""}), folder)


def _check_origin(origin: Origin, folder: Path, must_agree: bool) -> bool:
    """Return whether rows are those that a run was started with; False if its folder is silent.

    Args:
        must_agree: whether they must be, though the run has finished.

    Raises:
        ConfigError: if they are others, and the run is to go on.
    """
    kept = read_origin(folder)
    split = next(iter(kept.changed_splits(origin.rows)), None) if kept else None
    if split is None:
        return kept is not None
    problem = f"the {split} rows are not those that {folder} was started with"
    if read_result(folder) is None or must_agree:
        where = f" (--data {kept.data})" if kept and kept.data else ""
        raise ConfigError(
            f"--resume: {problem}{where}; bring them back, or begin a new run with another --out"
        )
    logger.warning("%s; its result is of those", problem)
    return False


def fingerprint(encoded: Mapping[Split, EncodedSplit]) -> dict[str, str]:
    """Return a hash of the tokens and targets of each split."""
    hashes: dict[str, str] = {}
    for split, rows in encoded.items():
        digest = hashlib.sha256()
        for sequence in rows.sequences:
            head = f"{sequence.example_id} {sequence.prompt_length} {sequence.label} "
            digest.update(head.encode("utf-8", "surrogatepass"))
            digest.update(sequence.ids.tobytes())
        hashes[split] = digest.hexdigest()
    return hashes


def identity_of(prepared: Prepared, folder: Path) -> Identity:
    """Return what the checkpoints of a run have to agree with.

    Its length may change on the way (see `lengthen`), files may lie elsewhere by now, and fields
    that a later version adds are no difference as long as they have their defaults.
    """
    origin, config = read_origin(folder), prepared.config.deciding
    values = config.model_dump(mode="json", exclude_defaults=True)
    values["model"] = Path(config.model).name
    for part, name in [*(("train", name) for name in LENGTH), ("task", "path"), ("method", "from")]:
        values.get(part, {}).pop(name, None)
    values.pop("from", None)
    digest = hashlib.sha256(to_json(values, sort_keys=True).encode("ascii")).hexdigest()
    return Identity(fingerprint(prepared.encoded), origin.run if origin else "", digest)


def last_checkpoint_hint(folder: Path) -> str:
    """Return "; the last checkpoint is ..." to append to an error, or "" without one."""
    last = checkpoint.read_last(folder / CHECKPOINT_FOLDER)
    place = folder / CHECKPOINT_FOLDER
    return "" if last is None else f"; the last checkpoint is of update {last.number}, in {place}"


def read_steps(folder: Path) -> list[Step]:
    """Return the updates in the metrics.jsonl of a run."""
    return [line for line in read_lines(folder / METRICS_FILE) if isinstance(line, Step)]


@dataclass(frozen=True)
class Resumed:
    """The progress of a run before it is resumed; empty for a new one."""

    lines: list[Line]
    """The lines of metrics.jsonl."""
    evaluation_seconds: float

    @property
    def steps(self) -> list[Step]:
        """The updates it has made."""
        return [line for line in self.lines if isinstance(line, Step)]


class Saver:
    """Writes the checkpoints of one run, and restores the last one.

    Args:
        folder: the folder of the run.
        identity: what checkpoints have to agree with; another run's is refused.
    """

    def __init__(
        self,
        folder: Path,
        model: LanguageModel,
        optimizer: Optimizer,
        best: BestState,
        identity: Identity,
        config: TrainConfig,
    ) -> None:
        self._folder = folder
        self._model, self._optimizer, self._best = model, optimizer, best
        self._identity = identity
        self._config = config
        self._lines: list[Line] = []
        self._written = time.monotonic()

    def restore_last(self) -> Resumed:
        """Restore the last checkpoint, if there is one, and the log as it was then.

        All that goes on comes from the checkpoint: metrics.jsonl is written anew from it.

        Raises:
            ConfigError: if the rows have changed, or the checkpoint is another run's.
        """
        path = self._folder / METRICS_FILE
        last = checkpoint.read_last(self._folder / CHECKPOINT_FOLDER)
        if last is None:
            if is_main():
                path.unlink(missing_ok=True)
            return Resumed([], 0.0)
        try:
            self._refuse_another_run(last.state)
            checkpoint.restore(last, self._model, self._optimizer, self._best)
            self._lines = self._read_log(last, path)
        except (KeyError, TypeError, ValueError, RuntimeError, zlib.error) as error:
            raise ConfigError(
                f"{self._folder}: its last checkpoint is not a checkpoint of this run: {error!r}"
            ) from error
        if is_main():
            write_whole(path, text_of_lines(self._lines))
        logger.info("resuming after update %d", last.number)
        return Resumed([*self._lines], last.state.evaluation_seconds)

    def _refuse_another_run(self, state: RunState) -> None:
        """Raise ConfigError if a checkpoint is of other rows or settings, or another run's."""
        for split, digest in self._identity.rows.items():
            if state.rows[split] != digest:
                raise ConfigError(
                    f"--resume: the {split} rows are not those that {self._folder} was started with"
                )
        for what, there, here in (
            ("another run", state.run, self._identity.run),
            ("other settings", state.config, self._identity.config),
        ):
            if not (there and here) or there == here:  # earlier versions say neither
                continue
            raise ConfigError(
                f"--resume: the last checkpoint in {self._folder / CHECKPOINT_FOLDER} is of "
                f"{what}; remove it: the run goes on from the one before it, or from its start"
            )

    def _read_log(self, last: Checkpoint, path: Path) -> list[Line]:
        """Return the lines of metrics.jsonl that belong to a checkpoint.

        Raises:
            ConfigError: if a checkpoint of an earlier version has none, and the file is not whole.
        """
        if (log := last.log) is not None:
            there = path.read_text("utf-8", "replace") if path.is_file() else ""
            if not there.startswith(log):
                logger.warning("%s: has changed; it is written anew from the checkpoint", path)
            lines = lines_of_text(log)
        else:
            lines = [line for line in read_lines(path) if line.number <= last.number]
        numbers = [line.number for line in lines if isinstance(line, Step)]
        if numbers != list(range(1, last.number + 1)):
            raise ConfigError(
                f"{path}: does not have the updates 1 to {last.number} of its checkpoint; put the "
                "file back as it was, or begin a new run with another --out"
            )
        return lines

    def add(self, line: Line) -> None:
        """Add a line to metrics.jsonl, and to what the next checkpoint keeps of it."""
        self._lines.append(line)
        if is_main():
            append_line(self._folder / METRICS_FILE, line)

    @property
    def has_much_to_lose(self) -> bool:
        """Whether the last checkpoint was so long ago that another is worth its time."""
        return time.monotonic() - self._written > MUCH_SECONDS

    def write_if_due(self, number: int, evaluation_seconds: float, now: bool) -> None:
        """Write a checkpoint if it is time for one; warn if it cannot be written.

        Args:
            number: how many updates have been made.
            now: write one in any case.
        """
        minutes = (time.monotonic() - self._written) / 60
        every = self._config.checkpoint_every
        due = every is not None and number % every == 0
        if not (now or due or minutes >= self._config.checkpoint_minutes):
            return
        try:
            taken = checkpoint.snapshot(
                number,
                self._model,
                self._optimizer,
                self._best,
                self._identity,
                evaluation_seconds,
                text_of_lines(self._lines),
            )
            checkpoint.write(taken, self._folder / CHECKPOINT_FOLDER)
        except OSError as error:
            logger.warning(
                "no checkpoint of update %d (%s); the one before it stays", number, error
            )
        self._written = time.monotonic()


def _difference(there: Any, here: Any, path: str = "") -> str:
    """Return the first field in which two configurations differ, with both values."""
    for name in type(there).model_fields:
        old, new = getattr(there, name), getattr(here, name, None)
        if old == new:
            continue
        if isinstance(old, BaseModel) and type(old) is type(new):
            return _difference(old, new, f"{path}{name}.")
        kinds = [getattr(value, "kind", value) for value in (old, new)]
        return f"{path}{name} {kinds[0]!r}, and this has {kinds[1]!r}"
    raise AssertionError("the configurations are the same")
