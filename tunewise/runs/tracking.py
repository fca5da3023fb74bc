"""What a run does, told to the trackers its user reads: TensorBoard, Weights & Biases, MLflow.

Each is one of Accelerate's own (https://huggingface.co/docs/accelerate/usage_guides/tracking). They
read what a run writes into metrics.jsonl, and change nothing of it.
"""

import importlib.util
import json
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
from tunewise.training.config import Tracker
from tunewise.training.parallel import is_main

logger = logging.getLogger(__name__)

PROJECT = "tunewise"
"""Under which Weights & Biases and MLflow keep runs together."""
OF_AN_UPDATE = ("loss", "learning_rate", "grad_norm")


def check_trackers(config: RunConfig) -> None:
    """Return if what the trackers need is installed.

    Raises:
        ConfigError: if it is not.
    """
    for name in config.train.trackers:
        if any(importlib.util.find_spec(library) is None for library in ("accelerate", name)):
            also = "" if name == "tensorboard" else f" {name}"
            raise ConfigError(
                f"train.trackers: {name} needs an extra: pip install 'tunewise[trackers]'{also}"
            )


class Tracking:
    """Tells a run's trackers of its updates and metrics; without any, does nothing."""

    def __init__(self, trackers: Iterable[Any]) -> None:
        self._trackers = list(trackers)

    def line(self, line: Mapping[str, Any]) -> None:
        """Tell of a line of metrics.jsonl: an update, or an evaluation on validation data."""
        if "validation" in line:
            self.metrics("validation", line["validation"], line["number"])
        else:
            self.metrics("train", {name: line[name] for name in OF_AN_UPDATE}, line["number"])

    def metrics(self, group: str, values: Mapping[str, float | None], number: int) -> None:
        """Tell of some values after an update; what is not a number is left out."""
        finite = {n: v for n, v in values.items() if v is not None and math.isfinite(v)}
        named = {f"{group}/{name}": value for name, value in finite.items()}
        self._each(lambda tracker: tracker.log(named, step=number))

    def finish(self) -> None:
        """Tell that there is nothing more to come."""
        self._each(lambda tracker: tracker.finish())

    def _each(self, tell: Callable[[Any], None]) -> None:
        """Tell each tracker; one that fails, for want of its server, does not end the training."""
        for tracker in list(self._trackers):
            try:
                tell(tracker)
            except Exception as error:
                logger.warning("%s is told nothing more: %s", tracker.name, error)
                self._trackers.remove(tracker)


@contextmanager
def tracked(config: RunConfig, folder: Path) -> Iterator[Tracking]:
    """Give what tells of a run while the block lasts; its trackers know the configuration.

    Args:
        folder: the run's; its name is that of the run.

    Raises:
        ConfigError: if a tracker cannot be begun: no key, no server.
    """
    names = config.train.trackers if is_main() else ()
    tracking = Tracking(_started(name, config, folder) for name in names)
    try:
        yield tracking
    finally:
        tracking.finish()


def _started(name: Tracker, config: RunConfig, folder: Path) -> Any:
    """Return a tracker of Accelerate's that knows the configuration.

    A run that goes on is told from its first update, as a new one: no update is shown twice.
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
        tracker.store_init_configuration(dict(_flat(config)))
    except Exception as error:
        raise ConfigError(f"train.trackers: {name} cannot be begun: {error}") from error
    return tracker


def _flat(settings: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a configuration by their dotted paths; lists and mappings as text."""
    written = settings.model_dump(mode="json")
    for (_, value), (name, plain) in zip(settings, written.items(), strict=True):
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", json.dumps(plain) if isinstance(plain, list | dict) else plain
