"""The command `cache`: what is kept on the disk to save time, how large it is, and its removal."""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Annotated, NamedTuple

import typer

from tunewise.files import cache_folder

KINDS = {
    "tokens": "token ids of texts",
    "prefix": "output of frozen blocks",
    "machines": "measured speed of this machine",
}
"""The folders of what costs only time to compute again."""
JUDGE = "judge"
"""The folder of a judge's replies, which may have been paid for: `--clear` leaves it alone."""


class Kept(NamedTuple):
    """The files of a folder of the cache."""

    kind: str
    about: str
    files: int
    bytes: int


def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="remove all but the replies of judges")
    ] = False,
) -> None:
    """Show what is kept on the disk to save time, and how large it is; --clear removes it."""
    folder = cache_folder()
    kept = list(_contents(folder))
    print(folder)
    for kind, about, files, size in kept:
        print(f"{kind:<10}{about:<32}{files:>8,} files{size / 2**20:>12,.1f} MiB")
    if not kept:
        print("nothing is kept")
    if not clear:
        return
    removable = [entry for entry in kept if entry.kind in KINDS]
    for entry in removable:
        rmtree(folder / entry.kind)
    freed = sum(entry.bytes for entry in removable) / 2**20
    print(f"removed: {sum(entry.files for entry in removable):,} files, {freed:,.1f} MiB")
    if len(removable) < len(kept):
        print(f"not removed: {folder / JUDGE}, since replies of a judge may have been paid for")


def _contents(folder: Path) -> Iterator[Kept]:
    """Yield the folders of the cache that hold files."""
    for kind, about in {**KINDS, JUDGE: "replies of judges"}.items():
        sizes = [path.stat().st_size for path in (folder / kind).rglob("*") if path.is_file()]
        if sizes:
            yield Kept(kind, about, len(sizes), sum(sizes))
