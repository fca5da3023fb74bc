"""Answers to the rows of a file, as JSON lines or as a table.

All rows are checked before anything is computed. Where the command is stopped, what it has answered
stays beside the output, and the same command goes on from there.
"""

import fcntl
import hashlib
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch

from tunewise import __version__
from tunewise.answer_table import DELIMITERS, write_table
from tunewise.data.rows import Row, refuse_row, stream_rows
from tunewise.data.unusable import BadRows, UnusableRows
from tunewise.errors import ConfigError, DataError, TunewiseError
from tunewise.files import sync, temporary_file
from tunewise.json_text import to_json
from tunewise.predict import Predictor, load, usable_prompts
from tunewise.runs.folder import CONFIG_FILE
from tunewise.runs.model import read_finished
from tunewise.tally import What, listening
from tunewise.tasks import Task
from tunewise.terminal import for_stdout

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**24
OTHER_KINDS = (".xlsx", ".xls", ".ods", ".parquet", ".arrow", ".feather", ".gz", ".zip")
"""Endings of files that are neither text nor a table as text, so they are not written."""


def predict_file(
    run: Path,
    source: Path,
    output: Path | None,
    bad_rows: BadRows = "stop",
    key: str | None = None,
    with_input: bool = False,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> int:
    """Answer the rows of a file, in order; return how many are answered.

    Args:
        output: a new file, which appears when all are answered: a table if its name ends in .csv
            or .tsv, else JSON lines. None prints these.
        key: the column with the user's own keys, which become the ids.
        with_input: whether each answer has the columns of its row, under the name `input`.
        progress: takes the number of rows that are answered, and of all, if that is known.

    Raises:
        ConfigError: if `output` exists already or is of another kind, or the run answers nothing.
        DataError: if rows cannot be used, unless others can and these are to be left out.
    """
    _check_output(output)
    is_run = (run / CONFIG_FILE).is_file()
    # The configuration of a run says how it reads rows; a model is loaded for that.
    predictor = None if is_run else load(run)
    total = None
    if bad_rows == "stop" and source.is_file():  # a pipe is read once, so checked on the way
        task = predictor.config.task if predictor else read_finished(run).task
        total = _check_rows(source, task, key)
    predictor = predictor or load(run)
    unusable = UnusableRows()
    on_bad_row = unusable if bad_rows == "drop" else refuse_row
    settings = (bad_rows, key, with_input)
    with _opened(output, predictor, source, settings) as (file, num_known):
        count = num_heard = num_known

        def hear(what: What, number: int) -> None:
            nonlocal num_heard
            if what == "texts written":  # which takes long: others come by the hundred
                num_heard += number
                progress(num_heard, total)

        rows = stream_rows(source, on_bad_row)
        inputs = Inputs(rows) if with_input else None  # they would fill the memory unread
        with listening(hear):
            for answer in predictor.answers(inputs or rows, on_bad_row, num_known, key):
                line: dict[str, Any] = {**answer}
                if inputs is not None:
                    line["input"] = inputs.take(answer["row"])
                text = to_json(line, ascii_only=False, default=str)
                file.write((for_stdout(text) if output is None else text) + "\n")
                count += 1
                progress(max(count, num_heard), total)
        if unusable.count and not count:
            raise DataError(unusable.told(count))
    if unusable.count:
        logger.warning("%s; left out", unusable.told(count))
    return count


class Inputs:
    """Rows on their way to be answered, whose columns are kept until the answer is there."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._waiting: deque[Row] = deque()

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self._waiting.append(row)
            yield row

    def take(self, number: int | None) -> dict[str, Any]:
        """Return the columns of the row of this number; those before it were not answered."""
        while (row := self._waiting.popleft()).number != number:
            pass
        return row.values


def _check_output(output: Path | None) -> None:
    if output is not None and (suffix := output.suffix.lower()) in OTHER_KINDS:
        known = " and ".join(DELIMITERS)
        raise ConfigError(
            f"--output {output}: {suffix} cannot be written; {known} are tables, .jsonl JSON lines"
        )
    if output is not None and output.exists():
        raise ConfigError(f"--output {output}: exists already; nothing is overwritten")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}; make it first")


def _check_rows(source: Path, task: Task, key: str | None) -> int:
    """Return the number of rows of a file, all of which can be used.

    Raises:
        DataError: if some cannot: how many, why the first, where others.
    """
    unusable = UnusableRows()
    rows = stream_rows(source, unusable)
    num_usable = sum(1 for _ in usable_prompts(task, rows, unusable, key))
    if unusable.count:
        advice = "; correct them, or leave them out with --bad-rows drop" if num_usable else ""
        raise DataError(unusable.told(num_usable) + advice)
    return num_usable


class _Opened(NamedTuple):
    """An output, and how many of its lines are written already."""

    file: TextIO
    num_known: int


@contextmanager
def _opened(
    output: Path | None, predictor: Predictor, source: Path, settings: tuple[object, ...]
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
            with _continued(output, _key(predictor, source, settings)) as opened:
                yield opened
        else:  # the rows of a pipe are gone when it is read
            with temporary_file(_part_of(output)) as part:
                with part.open("w", encoding="utf-8") as file:
                    yield _Opened(file, 0)
                _finish(part, output)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error


@contextmanager
def _continued(output: Path, key: str) -> Iterator[_Opened]:
    """Yield OUTPUT.part, with the lines that a stopped command of the same key has left in it.

    The key is in OUTPUT.part.key, which is locked. An error of this package removes both, since the
    same command would meet it again.
    """
    part = _part_of(output)
    key_path = part.with_name(f"{part.name}.key")
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
            _finish(part, output)
        except TunewiseError:
            part.unlink(missing_ok=True)
            raise
        except BaseException:
            logger.warning(
                "%s has what was answered, as JSON lines; the same command goes on from there", part
            )
            raise
        finally:
            if not part.exists():
                key_path.unlink(missing_ok=True)


def _part_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


def _finish(part: Path, output: Path) -> None:
    """Put the answers in a file of JSON lines in the place of the output, in its form."""
    if delimiter := DELIMITERS.get(output.suffix.lower()):
        with temporary_file(output.with_name(f"{output.name}.table")) as table:
            write_table(part, table, delimiter)
            sync(table)
            table.replace(output)
        part.unlink()
    else:
        sync(part)
        part.replace(output)


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


def _key(predictor: Predictor, source: Path, settings: tuple[object, ...]) -> str:
    """Return a hash of all that decides the answers."""
    model = predictor.model
    device = next(model.parameters()).device.type
    words = (__version__, torch.__version__, device, model.compute_dtype, source.name, *settings)
    key = hashlib.sha256(repr(words).encode())
    key.update(predictor.config.model_dump_json().encode())
    key.update(predictor.tokenizer.fingerprint.encode())
    for tensor in model.state_dict().values():
        key.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            key.update(chunk)
    return key.hexdigest()
