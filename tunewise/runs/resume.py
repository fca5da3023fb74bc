"""Resuming a run: checkpoints are written, restored, and refused if they are another run's."""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tunewise.config import make_config, write_yaml
from tunewise.data.encode import EncodedSplit
from tunewise.data.rows import Split
from tunewise.errors import ConfigError
from tunewise.models import LanguageModel
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    METRICS_FILE,
    Line,
    read_lines,
    read_result,
    write_lines,
)
from tunewise.runs.lengthen import differs_in_length, lengthen, with_length_of
from tunewise.runs.origin import Origin, origin_of, read_origin, write_origin
from tunewise.runs.prepare import Prepared
from tunewise.training import checkpoint
from tunewise.training.best import BestState
from tunewise.training.config import TrainConfig
from tunewise.training.loop import Step, updates_per_epoch
from tunewise.training.optimizers import Optimizer
from tunewise.training.parallel import is_main

logger = logging.getLogger(__name__)


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
    if is_known:
        write_origin(origin, folder)  # the rows may lie in another folder now


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
        rows: the fingerprint of the rows; a checkpoint of other rows is refused.
    """

    def __init__(
        self,
        folder: Path,
        model: LanguageModel,
        optimizer: Optimizer,
        best: BestState,
        rows: dict[str, str],
        config: TrainConfig,
    ) -> None:
        self._folder = folder
        self._model, self._optimizer, self._best = model, optimizer, best
        self._rows = rows
        self._config = config
        self._written = time.monotonic()

    def restore_last(self) -> Resumed:
        """Restore the last checkpoint, if there is one, and drop what was written after it.

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
            for split, digest in self._rows.items():
                if last.state.rows[split] != digest:
                    raise ConfigError(
                        f"--resume: the {split} rows are not those that {self._folder} "
                        "was started with"
                    )
            checkpoint.restore(last, self._model, self._optimizer, self._best)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"{self._folder}: its last checkpoint is not a checkpoint of this run: {error!r}"
            ) from error
        lines = [line for line in read_lines(path) if line.number <= last.number]
        if is_main():
            write_lines(path, lines)
        logger.info("resuming after update %d", last.number)
        return Resumed(lines, last.state.evaluation_seconds)

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
                number, self._model, self._optimizer, self._best, self._rows, evaluation_seconds
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
