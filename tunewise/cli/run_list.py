"""The rows of `tunewise list runs`: runs and studies, and what became of them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tunewise.config import make_config
from tunewise.errors import ConfigError, TunewiseError
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    is_locked,
    read_error,
    read_result,
)
from tunewise.studies.trials import RUNS_FOLDER, STUDY_FILE
from tunewise.training.checkpoint import last_number

FOLDER = Path("runs")
"""The folder in which runs and studies are, unless --out named another."""


@dataclass(frozen=True)
class ListedRun:
    """A run or a study, and what became of it; what is not known is empty."""

    run: str
    status: str
    model: str = ""
    task: str = ""
    method: str = ""
    metric: str = ""
    validation: str = ""
    """The best validation value of the metric."""
    test: str = ""
    """The value of the metric on the test split."""


def runs() -> list[ListedRun]:
    """Return the runs and studies in the folder `runs`; the runs of a study are only counted.

    Raises:
        ConfigError: if there are none.
    """
    listed = []
    for place in sorted(FOLDER.iterdir()) if FOLDER.is_dir() else []:
        if (place / STUDY_FILE).is_file():
            listed.append(_study(place))
        elif (place / CONFIG_FILE).is_file():
            listed.append(_run(place))
    if not listed:
        raise ConfigError(
            f"list runs: no runs in {FOLDER.absolute()}, where `tunewise run` puts them"
        )
    return listed


def _study(folder: Path) -> ListedRun:
    runs_folder = folder / RUNS_FOLDER
    places = sorted(runs_folder.iterdir()) if runs_folder.is_dir() else []
    counts = Counter(_status(place).partition(":")[0] for place in places)
    counted = ", ".join(f"{count} {status}" for status, count in counts.items())
    return ListedRun(str(folder), f"study: {counted or 'no run'}")


def _run(folder: Path) -> ListedRun:
    try:
        config = make_config(folder / CONFIG_FILE)
        result = read_result(folder)
    except TunewiseError as error:  # the other runs are still worth listing
        return ListedRun(str(folder), f"unreadable: {error}")
    validation = test = ""
    if result is not None:
        validation = f"{result.best.value:.4f}"
        value = result.metrics.get("test", {}).get(config.metric)
        test = "" if value is None else f"{value:.4f}"
    return ListedRun(
        run=str(folder),
        status=_status(folder),
        model=Path(config.model).name,
        task=config.task.name,
        method=config.method.kind,
        metric=config.metric,
        validation=validation,
        test=test,
    )


def _status(folder: Path) -> str:
    """Return what became of a run, such as `finished` or `stopped: at update 12`."""
    if is_locked(folder):
        return "running"
    if read_result(folder) is not None:
        return "finished"
    if (error := read_error(folder)) is not None:
        return f"failed: {error}"
    number = last_number(folder / CHECKPOINT_FOLDER)
    return "stopped" if number is None else f"stopped: at update {number}"
