"""Pages of docs/adding, applied to a copy of the package, and the life of a run in that copy."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "tests" / "run_in_a_copy.py"
PAGES = ROOT / "docs" / "adding"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = (
    "train.epochs=1",
    "train.batch_size=4",
    "train.checkpoint_every=1",
    "train.precision=fp32",
    "seed=3",
)
Words = list[Any]
Run = Callable[..., list[str]]


class Changes(NamedTuple):
    """The changes that a page asks for."""

    new: list[str]
    """Its files."""
    lines: dict[str, list[str]]
    """The lines that it adds to files of the package, without imports."""


def apply(page: str, package: Path) -> Changes:
    """Write the files and lines of a page into a copy of the package."""
    changes = Changes([], {})
    for language, code in FENCE.findall((PAGES / page).read_text("utf-8")):
        first, _, rest = code.partition("\n")
        if language == "python" and first.startswith("# new file: "):
            name = first.removeprefix("# new file: ")
            path = package.parent / name
            assert not path.exists(), f"{name} is there already"
            path.write_text(rest, "utf-8")
            changes.new.append(name)
        elif language == "diff":
            name = first.removeprefix("--- ")
            path = package.parent / name
            lines = rest.splitlines(True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            after = "".join(line[1:] for line in lines if line[0] in " +")
            text = path.read_text("utf-8")
            assert text.count(before) == 1, f"{name}: these lines are not there once: {before}"
            path.write_text(text.replace(before, after), "utf-8")
            added = [line[1:].strip() for line in lines if line[0] == "+"]
            named = [line for line in added if not line.startswith("from ")]
            changes.lines[name] = changes.lines.get(name, []) + named
    return changes


def life(words: Words) -> list[Words]:
    """Return the commands that run a set-up, and stop and resume another run of it."""
    return [
        ["run", *words, "--out", "run"],
        ["stop", "again", *words],
        ["run", *words, "--out", "again", "--resume"],
    ]


def check_life(folder: Path) -> dict[str, Any]:
    """Check that the run was estimated, and resumed to the same bits; return its result."""
    whole, resumed = folder / "run", folder / "again"
    trained = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert trained
    for name in (*trained, Path("predictions.jsonl")):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    assert updates(whole) == updates(resumed)
    assert len(updates(whole)) == 3
    result = result_of(whole)
    assert result["estimate"]["seconds"] > 0
    return result


def updates(run: Path) -> list[dict[str, Any]]:
    """Return the updates of a run, without what a clock decides."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{**line, "seconds": 0} for line in lines if "loss" in line]


def result_of(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "result.json").read_text("utf-8"))
    return values
