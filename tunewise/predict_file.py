"""Answers to the rows of a file, one JSON line each.

All rows are checked before anything is computed. Where the command is stopped, what it has answered
stays beside the output, and the same command goes on from there.
"""

import fcntl
import hashlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

import torch

from tunewise import __version__
from tunewise.config import make_config
from tunewise.data.rows import refuse_row, stream_rows
from tunewise.data.unusable import BadRows, UnusableRows
from tunewise.errors import ConfigError, DataError, TunewiseError
from tunewise.files import sync, writing_whole
from tunewise.json_text import to_json
from tunewise.predict import Predictor, load, usable_prompts
from tunewise.runs.folder import CONFIG_FILE
from tunewise.tasks import Task

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**24


def predict_file(run: Path, source: Path, output: Path | None, bad_rows: BadRows = "stop") -> int:
    """Answer the rows of a file, in order, one JSON line each; return how many are answered.

    Args:
        output: a new file, which appears when all are answered; None prints.

    Raises:
        ConfigError: if `output` exists already, or the run answers nothing.
        DataError: if rows cannot be used, unless others can and these are to be left out.
    """
    _check_output(output)
    is_run = (run / CONFIG_FILE).is_file()
    # The configuration of a run says how it reads rows; a model is loaded for that.
    predictor = None if is_run else load(run)
    if bad_rows == "stop" and source.is_file():  # a pipe is read once, so checked on the way
        task = predictor.config.task if predictor else make_config(run / CONFIG_FILE).task
        _check_rows(source, task)
    predictor = predictor or load(run)
    unusable = UnusableRows()
    on_bad_row = unusable if bad_rows == "drop" else refuse_row
    with _opened(output, predictor, source, bad_rows) as (file, num_known):
        count = num_known
        rows = stream_rows(source, on_bad_row)
        for answer in predictor.answers(rows, on_bad_row, num_known):
            file.write(to_json(answer, ascii_only=False) + "\n")
            count += 1
        if unusable.count and not count:
            raise DataError(unusable.told(count))
    if unusable.count:
        logger.warning("%s; left out", unusable.told(count))
    return count


def _check_output(output: Path | None) -> None:
    if output is not None and output.exists():
        raise ConfigError(f"--output {output}: exists already; nothing is overwritten")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}; make it first")


def _check_rows(source: Path, task: Task) -> None:
    """Raise DataError if rows of a file cannot be used: how many, why the first, where others."""
    unusable = UnusableRows()
    rows = stream_rows(source, unusable)
    num_usable = sum(1 for _ in usable_prompts(task, rows, unusable))
    if unusable.count:
        advice = "; correct them, or leave them out with --bad-rows drop" if num_usable else ""
        raise DataError(unusable.told(num_usable) + advice)


class _Opened(NamedTuple):
    """An output, and how many of its lines are written already."""

    file: TextIO
    num_known: int


@contextmanager
def _opened(
    output: Path | None, predictor: Predictor, source: Path, bad_rows: BadRows
) -> Iterator[_Opened]:
    """Yield the file to write answers to, which becomes the output at the end of the block.

    Raises:
        ConfigError: if it cannot be written, or another process is writing it.
    """
    if output is None:
        yield _Opened(sys.stdout, 0)
        return
    try:
        if source.is_file():
            with _continued(output, _key(predictor, source, bad_rows)) as opened:
                yield opened
        else:  # the rows of a pipe are gone when it is read
            with writing_whole(output) as part, part.open("w", encoding="utf-8") as file:
                yield _Opened(file, 0)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error


@contextmanager
def _continued(output: Path, key: str) -> Iterator[_Opened]:
    """Yield OUTPUT.part, with the lines that a stopped command of the same key has left in it.

    The key is in OUTPUT.part.key, which is locked. An error of this package removes both, since the
    same command would meet it again.
    """
    part, key_path = (output.with_name(f"{output.name}.{end}") for end in ("part", "part.key"))
    if key_path.is_symlink():  # it would lead out of the folder
        key_path.unlink()
    with key_path.open("a+", encoding="utf-8") as key_file:
        try:
            fcntl.flock(key_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"--output {output}: in use by another process") from error
        try:
            _check_output(output)
            num_known = _keep_lines(part, key, key_file)
            with part.open("a", encoding="utf-8") as file:
                yield _Opened(file, num_known)
            sync(part)
            part.replace(output)
        except TunewiseError:
            part.unlink(missing_ok=True)
            raise
        except BaseException:
            logger.warning("%s has what was answered; the same command goes on from there", part)
            raise
        finally:
            if not part.exists():
                key_path.unlink(missing_ok=True)


def _keep_lines(part: Path, key: str, key_file: TextIO) -> int:
    """Keep the whole lines of a file if its key is this one, else none; return their number."""
    key_file.seek(0)
    if key_file.read() != key or part.is_symlink():
        if part.exists():
            logger.info("%s is of other rows or another model, and is begun anew", part)
        part.unlink(missing_ok=True)  # before it could be taken for one of this key
        key_file.truncate(0)
        key_file.write(key)
        key_file.flush()
    part.touch()
    count = end = 0
    with part.open("r+b") as file:
        for line in file:
            if not line.startswith(b'{"id": ') or not line.endswith(b"}\n"):
                break
            count, end = count + 1, end + len(line)
        file.truncate(end)
    if count:
        logger.info("%s has %d answers; going on from there", part, count)
    return count


def _key(predictor: Predictor, source: Path, bad_rows: BadRows) -> str:
    """Return a hash of all that decides the answers."""
    model = predictor.model
    device = next(model.parameters()).device.type
    words = (__version__, torch.__version__, device, model.compute_dtype, source.name, bad_rows)
    key = hashlib.sha256(repr(words).encode())
    key.update(predictor.config.model_dump_json().encode())
    key.update(predictor.tokenizer.fingerprint.encode())
    for tensor in model.state_dict().values():
        key.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            key.update(chunk)
    return key.hexdigest()
