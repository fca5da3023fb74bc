"""Compare all methods on one task, each at its best learning rate, and print a table.

    python scripts/compare_methods.py --task sst5 --data ../shared/data --out runs/compare

Every method tries the same number of learning rates, each as a `tunewise run` in its own folder.
The one with the best validation accuracy is shown with its test result. Finished runs are not
repeated, so the script can be stopped and started again. The README shows its tables.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from tunewise.config import make_config
from tunewise.run import run
from tunewise.runs.progress import Progress

RATES = {
    "full": (1e-4, 3e-4, 1e-3),
    "last_layer": (1e-3, 3e-3, 1e-2),
    "last_blocks": (3e-4, 1e-3, 3e-3),
    "lora": (5e-4, 1.5e-3, 5e-3),
    "soft_prompt": (3e-3, 1e-2, 3e-2),
    "prefix": (1e-2, 3e-2, 1e-1),
    "ia3": (3e-3, 1e-2, 3e-2),
    "bitfit": (1e-3, 3e-3, 1e-2),
    "adapter": (3e-4, 1e-3, 3e-3),
}
"""Learning rates that each method tries: about a factor of 3 apart, around its default."""

HEADER = """\
| method | trained | learning rate | validation % | test % (95 % interval) | F1 % | train s |
|---|---:|---:|---:|---:|---:|---:|"""


def run_or_read(arguments: argparse.Namespace, kind: str, rate: float) -> dict[str, Any]:
    """Return the result of one run, which is read from its folder if it has finished before."""
    out = arguments.out / arguments.task / f"{kind}-{rate:g}"
    if not (out / "result.json").is_file():
        fields = {"model": arguments.model, "task": arguments.task, "method": kind}
        overrides = [f"train.learning_rate={rate:g}", *arguments.overrides]
        words = f"--task {arguments.task} --data {arguments.data} --method {kind}"
        words += f" {' '.join(overrides)} --out {out}"
        print(f"tunewise run {words}", flush=True)
        config = make_config(None, fields, overrides)
        run(config, arguments.data, out, Progress(Console(width=200)))
    return json.loads((out / "result.json").read_text("utf-8"))


def row(kind: str, rates: tuple[float, ...], results: list[dict[str, Any]]) -> str:
    """Return a row of the table: the learning rate with the best validation accuracy.

    It is marked as an edge where it is the lowest or highest tried: a better one may lie beyond.
    """
    scores = [result["metrics"]["validation"]["accuracy"] for result in results]
    best = max(range(len(results)), key=scores.__getitem__)
    result = results[best]
    low, high = result["intervals"]["test"]["accuracy"]
    edge = " (edge)" if best in (0, len(rates) - 1) else ""
    cells = (
        f"`{kind}`",
        f"{result['parameters']['trainable']:,}",
        f"{rates[best]:g}{edge}",
        f"{100 * scores[best]:.1f}",
        f"{100 * result['metrics']['test']['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        f"{100 * result['metrics']['test']['f1']:.1f}",
        f"{result['time']['train_seconds']:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--task", required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_intermixed_args()
    rows = []
    for kind in arguments.methods:
        results = [run_or_read(arguments, kind, rate) for rate in RATES[kind]]
        rows.append(row(kind, RATES[kind], results))
    print(HEADER)
    print("\n".join(rows))


if __name__ == "__main__":
    main()
