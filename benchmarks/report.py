"""Measured figures become a table: medians over rounds, and how the sides compare."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.items import PLAIN_EVERY, Item, Side
from benchmarks.prepare import timed_rows
from benchmarks.worker import Measured, Work
from tunewise.device import choose_device, describe

NAMES: dict[Side, str] = {"ours": "tunewise", "peer": "transformers + peft", "plain": "plain loop"}
COLUMNS = (
    *("item", "side", "examples/s", "tokens/s", "s/update", "ours faster"),
    *("cpu s/update", "ours less", "peak GB", "ours smaller", "% of ceiling"),
)


@dataclass
class Outcome:
    """All that was measured of an item."""

    item: Item
    work: Work
    flops: float
    """Useful operations of the timed part."""
    rounds: dict[Side, list[Measured]] = field(default_factory=dict)
    alike: dict[Side, Measured] = field(default_factory=dict)
    """Of the fp32 comparison."""
    ceilings: list[dict[str, float]] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def share(self, side: Side) -> float:
        """Return the part of the timed rows that a side does: the plain loop writes on few."""
        return 1 / PLAIN_EVERY if self.item.kind == "decode" and side == "plain" else 1.0

    def seconds(self, side: Side) -> list[float]:
        """Return what each round would take for all timed rows."""
        return [sum(measured.seconds) / self.share(side) for measured in self.rounds[side]]

    def processor(self, side: Side) -> list[float]:
        """Return the processor seconds that each round would take for all timed rows."""
        return [sum(measured.processor) / self.share(side) for measured in self.rounds[side]]

    def ceiling(self) -> float:
        """Return the fastest bf16 product of all rounds, in operations a second."""
        return max(ceiling["bf16"] for ceiling in self.ceilings)


def print_table(outcomes: Sequence[Outcome], threads: int, console: Console) -> None:
    """Print what was measured where, and a row per item and side, as Markdown."""
    if not outcomes:
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    ceilings = [ceiling for outcome in outcomes for ceiling in outcome.ceilings]
    best = ", ".join(f"{n} {max(c[n] for c in ceilings) / 1e9:,.0f}" for n in ("bf16", "fp32"))
    loads = [load for outcome in outcomes for load in outcome.loads]
    console.print(
        f"{date.today()}, {describe(choose_device())}, {platform.machine()}, {threads} threads, "
        f"Python {platform.python_version()}, {packages}; ceiling in GFLOP/s: {best}; "
        f"load {min(loads):.1f} to {max(loads):.1f}; rounds: {len(outcomes[0].ceilings)}"
    )
    table = Table(*COLUMNS, box=MARKDOWN)
    for column in table.columns[2:]:
        column.justify = "right"
    for outcome in outcomes:
        for side in outcome.item.sides:
            table.add_row(*_cells(outcome, side))
    console.print(table)


def _cells(outcome: Outcome, side: Side) -> list[str]:
    item, rows = outcome.item, timed_rows(outcome.work)
    seconds, processor = outcome.seconds(side), outcome.processor(side)
    tokens, num_updates = sum(len(row.ids) for row in rows), len(outcome.work.updates)
    if item.kind == "decode":
        tokens, num_updates = item.new_tokens * len(rows), 1
    elif item.kind == "updates":
        num_updates -= item.warm_up
    middle, peaks = median(seconds), [measured.peak_bytes for measured in outcome.rounds[side]]
    ours = side == "ours"
    return [
        item.name,
        NAMES[side],
        f"{len(rows) / middle:,.2f}",
        f"{tokens / middle:,.0f}",
        f"{middle / num_updates:.3f}",
        "" if ours else _ratio(seconds, outcome.seconds("ours")),
        f"{median(processor) / num_updates:.3f}",
        "" if ours else _ratio(processor, outcome.processor("ours")),
        f"{median(peaks) / 1e9:.2f}",
        "" if ours else _ratio(peaks, [m.peak_bytes for m in outcome.rounds["ours"]]),
        f"{100 * outcome.flops / middle / outcome.ceiling():.0f}",
    ]


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """Return how many times as much they take: of the medians, and round by round."""
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    whole = f"{median(theirs) / median(ours):.2f}"
    return whole if len(each) == 1 else f"{whole} ({min(each):.2f}-{max(each):.2f})"


def print_losses(outcome: Outcome, console: Console) -> None:
    """Print both sides' losses, so that equal work is seen: step by step in fp32."""
    ours, peer = outcome.rounds["ours"][0], outcome.rounds["peer"][0]
    if outcome.item.kind == "decode":
        pair = outcome.alike["ours"].outputs, outcome.alike["peer"].outputs
        console.print(f"  fp32: {_same(*pair)}; bf16: {_same(ours.outputs, peer.outputs)}")
        return
    console.print(f"  bf16: {_apart(ours.losses, peer.losses)}")
    if not outcome.alike:
        return
    ours, peer = outcome.alike["ours"], outcome.alike["peer"]
    for number, pair in enumerate(zip(ours.losses, peer.losses, strict=True), start=1):
        console.print(f"  fp32 update {number}: {pair[0]:.6f} and {pair[1]:.6f}")
    console.print(f"  fp32: {_apart(ours.losses, peer.losses)}")


def _apart(ours: Sequence[float], theirs: Sequence[float]) -> str:
    largest = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    return f"{len(ours)} losses, from {ours[0]:.4f} to {ours[-1]:.4f}, at most {largest:.1e} apart"


def _same(ours: Sequence[list[int]], theirs: Sequence[list[int]]) -> str:
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    return f"{same} of {len(ours)} texts are the same"


def write(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write everything that was measured."""
    values: list[dict[str, Any]] = []
    for outcome in outcomes:
        value = asdict(outcome)
        del value["work"]
        values.append(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"torch": torch.__version__, "items": values}, indent=1), "utf-8")
