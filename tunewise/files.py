"""Files that are written whole or not at all, and the folder of the cache."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors import SafetensorError

from tunewise.errors import ConfigError


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        ConfigError: if it cannot be written: a full disk, a folder that may only be read.
    """
    with naming_the_file(path), writing_whole(path) as temporary:
        temporary.write_text(text, "utf-8")


@contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`, which takes the place of `path` at the end.

    If the block raises, or the process stops in it, what was at `path` is still there. The new file
    is on the disk before it takes that place, so it also survives a power cut. One process at a
    time may write a file; see `writing_to_cache`.

    Raises:
        OSError: if it cannot be written.
    """
    with temporary_file(path.with_name(f"{path.name}.part")) as temporary:
        yield temporary
        sync(temporary)
        temporary.replace(path)


@contextmanager
def writing_to_cache(path: Path) -> Iterator[Path]:
    """Like `writing_whole`, for a file that several processes may write at the same time.

    The folder is made if there is none. Nothing waits for the disk: what a power cut takes from the
    cache is computed again.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield a new, empty file, which is removed at the end unless it was moved.

    What a stopped process left under the name is replaced.
    """
    path.unlink(missing_ok=True)  # a link there would lead out of the folder
    path.touch(exist_ok=False)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk and survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_regular(path: Path) -> None:
    """Raise OSError unless a path, or what it links to, is a plain file.

    A pipe would be waited for, and a device may have no end.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise OSError(f"it is {kind}, and a file is needed")


def share_files(folder: Path) -> None:
    """Give the files of a folder the permissions of new files: safetensors' are private."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(0o666 & ~mask)


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Raise a ConfigError that names the file or folder if the block cannot write it."""
    try:
        yield
    except (
        OSError,
        SafetensorError,
    ) as error:  # safetensors raises its own error for one of the system
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be written: {reason}") from error


def cache_folder() -> Path:
    """Return the folder of the cache: TUNEWISE_CACHE, or tunewise in the user's cache folder."""
    if folder := os.environ.get("TUNEWISE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunewise"
