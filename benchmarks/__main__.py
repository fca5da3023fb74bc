"""tunewise beside Transformers + PEFT, on equal work: `python -m benchmarks [ITEM ...]`.

Every side of every round is a fresh process; the sides take turns, and their order is reversed
from round to round, so that what else the machine does falls on all alike.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks import report
from benchmarks.items import ITEMS, Item, for_agreement, quick
from benchmarks.prepare import make_folder, make_work
from benchmarks.worker import Measured, read_work

ROOT = Path(__file__).parent.parent
ONEDNN_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def measure(
    item: Item, arguments: argparse.Namespace, root: Path, console: Console
) -> report.Outcome:
    """Return an item's figures over all rounds, and both sides' losses in fp32."""
    folder = make_folder(item.model, root, arguments.data, arguments.quick)
    settings = (folder, arguments.data, "bf16", arguments.threads, root)
    path, flops = make_work(item, *settings)
    outcome = report.Outcome(item, read_work(path), flops)
    for number in range(arguments.rounds):
        outcome.ceilings.append(json.loads(worker("ceiling", arguments.threads, arguments.threads)))
        for side in item.sides if number % 2 == 0 else item.sides[::-1]:
            console.print(f"{item.name}: round {number + 1} of {arguments.rounds}, {side}")
            measured = Measured(**json.loads(worker(side, path, arguments.threads)))
            outcome.rounds.setdefault(side, []).append(measured)
            outcome.loads.append(os.getloadavg()[0])
    if item.agrees:
        alike = for_agreement(item)
        path, _ = make_work(alike, folder, arguments.data, "fp32", arguments.threads, root)
        for side in alike.sides:
            console.print(f"{item.name}: fp32, {side}")
            measured = Measured(**json.loads(worker(side, path, arguments.threads)))
            outcome.alike[side] = measured
    return outcome


def worker(module: str, argument: object, threads: int) -> str:
    """Return what a fresh process prints last; it has a cache folder of its own."""
    with TemporaryDirectory() as cache:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "TUNEWISE_CACHE": cache,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        if module != "ours":  # every worker imports tunewise.device, which makes these small
            environment |= dict.fromkeys(ONEDNN_CACHES, "1024")
        command = [sys.executable, "-m", f"benchmarks.{module}", str(argument)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def parsed() -> argparse.Namespace:
    """Return the command line."""
    names = [item.name for item in ITEMS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"all, or some of {names}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--quick", action="store_true", help="a tiny model: does it work at all?")
    parser.add_argument("--out", type=Path, help="a file for all raw figures, as JSON")
    arguments = parser.parse_args()
    arguments.data = arguments.data.absolute()
    if unknown := set(arguments.items) - set(names):
        parser.error(f"no item {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    return arguments


def main() -> None:
    """Measure, and print the tables."""
    arguments, console = parsed(), Console(stderr=True, highlight=False)
    chosen = [item for item in ITEMS if not arguments.items or item.name in arguments.items]
    outcomes = []
    with TemporaryDirectory() as root:
        for item in chosen:
            if item.rows == "sst5" and not (arguments.data / "sst5").is_dir():
                console.print(f"{item.name}: left out, {arguments.data} has no folder sst5")
                continue
            small = quick(item) if arguments.quick else item
            outcomes.append(measure(small, arguments, Path(root), console))
            report.print_losses(outcomes[-1], console)
            if arguments.out:  # after each item, so that an interruption loses one at most
                report.write(outcomes, arguments.out)
    report.print_table(outcomes, arguments.threads, Console(width=200))


if __name__ == "__main__":
    main()
