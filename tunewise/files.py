"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from tunewise.errors import ConfigError


def write_whole(path: Path, text: str) -> None:
    """Write a file by way of another beside it, so that a stopped process leaves no half of it.

    Raises:
        ConfigError: if it cannot be written: a full disk, a folder that may only be read.
    """
    temporary = path.with_name(f"{path.name}.part")
    with writing(path):
        temporary.unlink(missing_ok=True)  # a link there would lead out of the folder
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell in one line what keeps a file or folder from being written."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has its own for the system's
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be written: {reason}") from error


def cache_folder() -> Path:
    """Return where the cache lives: TUNEWISE_CACHE, or tunewise in the user's cache folder."""
    if folder := os.environ.get("TUNEWISE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunewise"
