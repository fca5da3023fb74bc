"""Experiment trackers: a run's updates and metrics in TensorBoard, Weights & Biases or MLflow.

Each is one of Accelerate's own (https://huggingface.co/docs/accelerate/usage_guides/tracking). They
receive what a run writes into metrics.jsonl, and do not change the run.
"""

import importlib.util
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from pydantic import BaseModel

from tunewise.config import RunConfig
from tunewise.errors import ConfigError
from tunewise.json_text import to_json
from tunewise.runs.folder import Line
from tunewise.runs.result import Evaluation
from tunewise.training.config import Tracker
from tunewise.training.parallel import is_main

logger = logging.getLogger(__name__)

PROJECT = "tunewise"
"""The project under which Weights & Biases and MLflow keep runs together."""
TRACKED_FIELDS = ("loss", "learning_rate", "grad_norm")
"""The fields of an update that are sent to trackers."""


def check_trackers(config: RunConfig) -> None:
    """Raise ConfigError unless what the trackers need is installed."""
    for name in config.train.trackers:
        if any(importlib.util.find_spec(library) is None for library in ("accelerate", name)):
            also = "" if name == "tensorboard" else f" {name}"
            raise ConfigError(
                f"train.trackers: {name} needs an extra: pip install 'tunewise[trackers]'{also}"
            )


class Tracking:
    """Sends a run's updates and metrics to its trackers; without any, does nothing."""

    def __init__(self, trackers: Iterable[Any]) -> None:
        self._trackers = list(trackers)

    def send_line(self, line: Line) -> None:
        """Send a line of metrics.jsonl: an update, or an evaluation on validation data."""
        if isinstance(line, Evaluation):
            self.send_metrics("validation", line.validation, line.number)
        else:
            values = {name: getattr(line, name) for name in TRACKED_FIELDS}
            self.send_metrics("train", values, line.number)

    def send_metrics(self, group: str, values: Mapping[str, float], number: int) -> None:
        """Send some values after an update; those that are not finite are left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        named = {f"{group}/{name}": value for name, value in finite.items()}
        self._each(lambda tracker: tracker.log(named, step=number))

    def finish(self) -> None:
        """Close the trackers: nothing more is sent."""
        self._each(lambda tracker: tracker.finish())

    def _each(self, send: Callable[[Any], None]) -> None:
        """Send to each tracker; one that fails, for want of its server, does not end the run."""
        for tracker in list(self._trackers):
            try:
                send(tracker)
            except Exception as error:
                logger.warning("nothing more is sent to %s: %s", tracker.name, error)
                self._trackers.remove(tracker)


@contextmanager
def open_trackers(config: RunConfig, folder: Path) -> Iterator[Tracking]:
    """Yield the trackers of a run while the block lasts; they have received its configuration.

    Args:
        folder: the folder of the run, whose name is what trackers call the run.

    Raises:
        ConfigError: if a tracker cannot be started: no key, no server.
    """
    names = config.train.trackers if is_main() else ()
    tracking = Tracking(_start(name, config, folder) for name in names)
    try:
        yield tracking
    finally:
        tracking.finish()


def _start(name: Tracker, config: RunConfig, folder: Path) -> Any:
    """Return a started tracker of Accelerate's that has received the configuration.

    A resumed run is sent again from its first update, so that no update is shown twice.
    """
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    tracker: Any
    match name:
        case "tensorboard":
            rmtree(folder / name, ignore_errors=True)
            tracker = TensorBoardTracker(name, logging_dir=folder)
        case "wandb":
            tracker = WandBTracker(PROJECT, name=folder.name, dir=folder)
        case "mlflow":
            tracker = MLflowTracker(PROJECT, run_name=folder.name)
    try:
        tracker.start()
        tracker.store_init_configuration(dict(_flatten(config)))
    except Exception as error:
        raise ConfigError(f"train.trackers: {name} cannot be started: {error}") from error
    return tracker


def _flatten(settings: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a configuration by their dotted paths; lists and mappings as text."""
    written = settings.model_dump(mode="json")
    for (_, value), (name, plain) in zip(settings, written.items(), strict=True):
        if isinstance(value, BaseModel) and isinstance(plain, dict):
            yield from _flatten(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", to_json(plain) if isinstance(plain, list | dict) else plain
