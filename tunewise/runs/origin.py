"""The origin of a run's rows: the data folder, and a hash of each split's examples."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from tunewise.data.example import Example
from tunewise.data.rows import Split
from tunewise.errors import ConfigError
from tunewise.files import write_whole
from tunewise.json_text import to_json
from tunewise.runs.folder import ORIGIN_FILE
from tunewise.settings import Settings


class Origin(Settings):
    """The content of origin.json, in the folder of a run or a study."""

    data: Path | None = None
    """The data folder, as an absolute path; null if none was given."""
    rows: dict[Split, str] = Field(default={})
    """A hash of each split's examples; none for a study, whose runs have their own."""
    run: str = ""
    """The id of the run, by which its checkpoints are known; none in earlier versions."""

    def changed_splits(self, rows: Mapping[Split, str]) -> list[Split]:
        """Return the splits whose examples are not those that were kept."""
        return [split for split in rows if self.rows.get(split, rows[split]) != rows[split]]


def origin_of(data: Path | None, examples: Mapping[Split, Sequence[Example]]) -> Origin:
    """Return the origin of a run's examples."""
    rows = {split: hash_examples(examples[split]) for split in examples}
    return Origin(data=None if data is None else data.absolute(), rows=rows)


def hash_examples(examples: Sequence[Example]) -> str:
    """Return a hash of examples: their ids, texts and answers, in their order."""
    digest = hashlib.sha256()
    for example in examples:
        texts = [example.id, example.prompt, example.cue, example.target, example.choices]
        digest.update(to_json(texts).encode("ascii") + b"\n")
    return digest.hexdigest()


def write_origin(origin: Origin, folder: Path) -> None:
    """Write origin.json."""
    write_whole(folder / ORIGIN_FILE, origin.model_dump_json(indent=2) + "\n")


def read_origin(folder: Path) -> Origin | None:
    """Return what origin.json says; None if there is none, as in folders of earlier versions.

    Raises:
        ConfigError: if it is not as a run writes it.
    """
    path = folder / ORIGIN_FILE
    if not path.is_file():
        return None
    try:
        return Origin.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not as a run leaves it: {reason}") from error


def kept_data(folder: Path | None) -> Path | None:
    """Return the data folder that a run or study was started with, if its folder says so."""
    origin = None if folder is None else read_origin(folder)
    return None if origin is None else origin.data
