"""The folder of a run: its files, how they are written and read, and its lock."""

import fcntl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from traceback import format_exception

from pydantic import TypeAdapter, ValidationError

from tunewise.errors import ConfigError, TunewiseError, nearest
from tunewise.files import naming_the_file, write_whole
from tunewise.json_text import to_json
from tunewise.metrics import Prediction
from tunewise.runs.result import Evaluation, Failure, Result
from tunewise.training.loop import Step

CONFIG_FILE = "config.yaml"
ORIGIN_FILE = "origin.json"
METRICS_FILE = "metrics.jsonl"
PREDICTIONS_FILE = "predictions.jsonl"
RESULT_FILE = "result.json"
ERROR_FILE = "error.json"
LOCK_FILE = "lock"
CHECKPOINT_FOLDER = "checkpoint"
ADAPTER_FILE = Path("adapter/adapter.safetensors")
MODEL_FOLDER = "model"

Line = Step | Evaluation
"""A line of metrics.jsonl."""
LINE: TypeAdapter[Line] = TypeAdapter(Line)
PREDICTION = TypeAdapter(Prediction)


def run_folder(out: Path | None, name: str, resume: bool) -> Path:
    """Return the folder of a run: `out`, or the first free one of runs/NAME, runs/NAME-2, ...

    Args:
        resume: the folder may be that of a run; without `out` it is the last one of NAME.

    Raises:
        ConfigError: if `out` holds anything else already, or cannot be made.
    """
    folder = out or numbered(name, resume)
    if not resume or not folder.is_dir() or not _holds_something(folder):
        return new_folder(folder, "--resume continues a run")
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"--out {folder}: has no {CONFIG_FILE}, so it is not the folder of a run")
    return folder


def refuse_used(folder: Path, hint: str = "give another") -> None:
    """Raise ConfigError if there is something in the place of a new folder."""
    if folder.exists() and (not folder.is_dir() or _holds_something(folder)):
        raise ConfigError(
            f"--out {folder}: holds something already, and nothing is overwritten; {hint}"
        )


def new_folder(folder: Path, hint: str = "give another") -> Path:
    """Make a folder, unless it is there and empty, and return it.

    Args:
        hint: what the error advises if it is not empty.

    Raises:
        ConfigError: if it holds anything already, or cannot be made.
    """
    refuse_used(folder, hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made: {error.strerror}") from error
    return folder


def numbered(name: str, resume: bool) -> Path:
    """Return the first free one of runs/NAME, runs/NAME-2, ..., or the last there is."""
    folder, last, number = Path("runs") / name, None, 1
    while folder.exists():
        number += 1
        folder, last = Path("runs") / f"{name}-{number}", folder
    return last if resume and last is not None else folder


def _holds_something(folder: Path) -> bool:
    """Return whether the folder holds more than a run leaves before its config.yaml."""
    early = (LOCK_FILE, ORIGIN_FILE, f"{ORIGIN_FILE}.part", f"{CONFIG_FILE}.part")
    return any(path.name not in early for path in folder.iterdir())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block lasts.

    Raises:
        ConfigError: if another process holds it, or nothing can be written there.
    """
    with naming_the_file(folder):
        lock = (folder / LOCK_FILE).open("a")  # what a link leads to keeps its content
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{folder}: in use by another process") from error
        try:
            yield
        finally:
            with suppress(
                OSError
            ):  # a folder that may only be read by now: the hold is gone anyway
                (folder / LOCK_FILE).unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """Return whether a process holds a folder: one that was killed left its lock, but no hold."""
    try:
        with (folder / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def append_line(path: Path, line: Line) -> None:
    """Append a line to metrics.jsonl."""
    with naming_the_file(path), path.open("a", encoding="utf-8") as file:
        file.write(_json(line))


def text_of_lines(lines: Iterable[Line]) -> str:
    """Return lines as metrics.jsonl holds them."""
    return "".join(map(_json, lines))


def lines_of_text(text: str) -> list[Line]:
    """Return the lines that `text_of_lines` wrote.

    Raises:
        ValueError: if one is neither an update nor an evaluation.
    """
    return [LINE.validate_json(line) for line in text.splitlines()]


def _json(line: Line) -> str:
    values = asdict(line) if isinstance(line, Step) else line.model_dump()
    return to_json(values) + "\n"


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write one JSON line per prediction, from which any metric can be computed again."""
    lines = (to_json({"id": p.id, "row": p.row} | asdict(p), ascii_only=False) for p in predictions)
    write_whole(path, "".join(f"{line}\n" for line in lines))


def read_predictions(path: Path) -> list[Prediction]:
    """Return the predictions that `write_predictions` wrote.

    Raises:
        ConfigError: if the file is not there, or holds anything else.
    """
    with _written_by_a_run(path), path.open(encoding="utf-8") as file:
        return [PREDICTION.validate_json(line) for line in file]


def write_result(folder: Path, result: Result) -> None:
    """Write result.json whole or not at all."""
    text = to_json(result.model_dump(mode="json"), indent=2) + "\n"
    write_whole(folder / RESULT_FILE, text)


def read_result(folder: Path) -> Result | None:
    """Return the result of a run, or None if it has not finished.

    Raises:
        ConfigError: if the file is there and is not one that this version writes.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    with _written_by_a_run(path):
        return Result.model_validate_json(path.read_bytes())


def refuse_missing_run(folder: Path) -> None:
    """Raise ConfigError if a name can only be that of a run that is not there, and no hub id."""
    if folder.exists():
        return
    others = sorted(path.parent.name for path in folder.parent.glob(f"*/{CONFIG_FILE}"))
    if folder.parent.name == "runs" or (others and folder.parent != Path()):
        hint = nearest(folder.name, others) if others else "`tunewise list runs` shows those here"
        raise ConfigError(f"{folder}: no such folder; {hint}")


def unfinished(folder: Path) -> ConfigError:
    """Return the error of a command that needs a finished run."""
    return ConfigError(
        f"{folder}: the run has not finished; tunewise run --out {folder} --resume goes on"
    )


def write_error(folder: Path, error: Exception) -> None:
    """Write error.json: why a run failed."""
    folder.mkdir(parents=True, exist_ok=True)
    message = str(error) or type(error).__name__
    failure = Failure(error=message, traceback=format_exception(error))
    write_whole(folder / ERROR_FILE, failure.model_dump_json(indent=2) + "\n")


def read_error(folder: Path) -> str | None:
    """Return why a run failed, or None if it did not.

    Raises:
        ConfigError: if the file is not one that a run writes.
    """
    path = folder / ERROR_FILE
    if not path.is_file():
        return None
    with _written_by_a_run(path):
        return Failure.model_validate_json(path.read_bytes()).error


def read_lines(path: Path) -> list[Line]:
    """Return the lines of metrics.jsonl; a last line that was cut short is left out.

    Raises:
        ConfigError: if a line is neither an update nor an evaluation.
    """
    if not path.is_file():
        return []
    with _written_by_a_run(path):
        lines = path.read_bytes().split(b"\n")[:-1]
        return [LINE.validate_json(line) for line in lines]


@contextmanager
def _written_by_a_run(path: Path) -> Iterator[None]:
    """Raise a ConfigError of one line if the block finds a file that a run did not write so."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise ConfigError(f"{path}: not as a run leaves it: {reason}") from error
    except (OSError, ValueError, TunewiseError) as error:
        raise ConfigError(f"{path}: not as a run leaves it: {error}") from error
