"""What lets a run go on where it was stopped, and only that run."""

import hashlib
import logging
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tunewise.config import RunConfig, make_config, write_yaml
from tunewise.data.encode import EncodedSplit
from tunewise.data.rows import Split
from tunewise.errors import ConfigError
from tunewise.models import LanguageModel
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    METRICS_FILE,
    read_lines,
    write_lines,
)
from tunewise.training import checkpoint
from tunewise.training.best import BestState
from tunewise.training.config import TrainConfig
from tunewise.training.loop import Step
from tunewise.training.optimizer import Optimizer
from tunewise.training.parallel import is_main

logger = logging.getLogger(__name__)


def begin_or_go_on(config: RunConfig, folder: Path) -> None:
    """Write a new run's configuration; of one that goes on, see that it is the same.

    Raises:
        ConfigError: if the folder's run has another configuration; the first difference is shown.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        write_yaml(config, path)
        return
    there, here = make_config(path).deciding, config.deciding
    if there != here:
        raise ConfigError(
            f"--resume: {folder} was begun with {_difference(there, here)}; repeat its command, "
            "or give another --out"
        )


def fingerprint(encoded: Mapping[Split, EncodedSplit]) -> dict[str, str]:
    """Return a hash of the tokens and targets of each split."""
    found: dict[str, str] = {}
    for split, some in encoded.items():
        digest = hashlib.sha256()
        for sequence in some.sequences:
            head = f"{sequence.example_id} {sequence.prompt_length} {sequence.label} "
            digest.update(head.encode("utf-8", "surrogatepass"))
            digest.update(sequence.ids.tobytes())
        found[split] = digest.hexdigest()
    return found


def last_checkpoint(folder: Path) -> str:
    """Return where a run's last checkpoint is, as the end of a sentence; nothing without one."""
    last = checkpoint.read_last(folder / CHECKPOINT_FOLDER)
    place = folder / CHECKPOINT_FOLDER
    return "" if last is None else f"; the last checkpoint is of update {last.number}, in {place}"


def read_steps(folder: Path) -> list[Step]:
    """Return the updates that a run has made, as they were written down."""
    return _steps(read_lines(folder / METRICS_FILE))


class Saver:
    """Writes the checkpoints of one run, and puts the last one back.

    Args:
        folder: the run's.
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
        self._state = model, optimizer, best
        self._rows = rows
        self._config = config
        self._written = time.monotonic()

    def go_on(self) -> tuple[list[Step], dict[str, float], float]:
        """Put the last checkpoint back, if there is one, and forget what came after it.

        Returns:
            The updates made, the validation metrics of the best state, and the seconds spent on
            evaluations.

        Raises:
            ConfigError: if the rows have changed, or the checkpoint is another run's.
        """
        path = self._folder / METRICS_FILE
        last = checkpoint.read_last(self._folder / CHECKPOINT_FOLDER)
        if last is None:
            if is_main():
                path.unlink(missing_ok=True)
            return [], {}, 0.0
        try:
            for split, digest in self._rows.items():
                if last.values["rows"][split] != digest:
                    raise ConfigError(
                        f"--resume: the {split} rows are not those that {self._folder} "
                        "was begun with"
                    )
            checkpoint.restore(last, *self._state)
            validation, seconds = (
                last.values["validation"],
                float(last.values["evaluation_seconds"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"{self._folder}: the last checkpoint is none of this run: {error!r}"
            ) from error
        lines = [line for line in read_lines(path) if line["number"] <= last.number]
        if is_main():
            write_lines(path, lines)
        logger.info("going on after update %d", last.number)
        return _steps(lines), validation, seconds

    def offer(
        self, number: int, validation: dict[str, float], evaluation_seconds: float, now: bool
    ) -> None:
        """Write a checkpoint if it is time for one; one that cannot be written is only told."""
        minutes = (time.monotonic() - self._written) / 60
        every = self._config.checkpoint_every
        due = every is not None and number % every == 0
        if not (now or due or minutes >= self._config.checkpoint_minutes):
            return
        values = {
            "rows": self._rows,
            "validation": validation,
            "evaluation_seconds": evaluation_seconds,
        }
        try:
            taken = checkpoint.take(number, *self._state, values)
            checkpoint.write(taken, self._folder / CHECKPOINT_FOLDER)
        except OSError as error:
            logger.warning(
                "no checkpoint of update %d (%s); the one before it stays", number, error
            )
        self._written = time.monotonic()


def _steps(lines: Iterable[Mapping[str, Any]]) -> list[Step]:
    """Return the updates among some lines; JSON has null for what is not a number."""
    values: list[dict[str, Any]] = [
        {name: math.nan if value is None else value for name, value in line.items()}
        for line in lines
        if "loss" in line
    ]
    return [Step(**update) for update in values]


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
