"""Train every named task whose rows are here with two methods, and print a table.

    python scripts/every_task.py --data ../shared/data --out runs/tasks

This checks that each task works from end to end. It is not a comparison: few rows, one learning
rate, one seed. Finished runs are not repeated, so the script can be stopped and started again. The
README shows its table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from tunewise.config import make_config
from tunewise.run import run
from tunewise.runs.progress import Progress
from tunewise.tasks.named import task_names

METHODS = ("lora", "last_blocks")
SHOWN = {
    "classification": "accuracy",
    "cloze": "accuracy",
    "generation": "chrf",
    "instruction": "rougeL",
    "summarization": "rougeL",
}
"""The metric shown for each kind of task."""


def run_or_read(arguments: argparse.Namespace, task: str, method: str) -> dict[str, Any]:
    """Return the result of one run, which is read from its folder if it has finished before."""
    out = arguments.out / f"{task}-{method}"
    if not (out / "result.json").is_file():
        config = make_config(None, {"task": task, "method": method}, arguments.overrides)
        print(f"{task} with {method}", flush=True)
        run(config, arguments.data, out, Progress(Console(width=200)))
    return json.loads((out / "result.json").read_text("utf-8"))


def row(task: str, results: list[dict[str, Any]]) -> str:
    """Return a row of the table."""
    config, sizes = results[0]["config"]["task"], results[0]["data"]
    metric = SHOWN[config["kind"]]
    cells = [f"`{task}`", config["kind"], metric]
    cells.append(" / ".join(f"{sizes[split]['examples']:,}" for split in sizes))
    for result in results:
        low, high = result["intervals"]["test"][metric]
        cells.append(f"{result['metrics']['test'][metric]:.3g} ({low:.3g} to {high:.3g})")
    cells.append(" / ".join(f"{result['time']['train_seconds']:.0f}" for result in results))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_intermixed_args()
    here = [task for task in task_names() if (arguments.data / task).is_dir()]
    rows = [row(task, [run_or_read(arguments, task, m) for m in METHODS]) for task in here]
    print(f"| task | kind | metric | rows | {' | '.join(METHODS)} | train s |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
