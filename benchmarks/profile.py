"""Where the time of tunewise's updates goes: `python -m benchmarks.profile lora_lm`."""

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.items import ITEMS
from benchmarks.ours import training
from benchmarks.prepare import make_folder, make_work
from benchmarks.worker import read_work

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
UPDATES = 3

PRODUCTS = re.compile(r"aten::(mm|addmm_?|bmm)")
PARTS = {
    "output layer: products": re.compile(r"_SlicedLoss.*"),
    "attention": re.compile(r"_FusedOnCPU.*|aten::_?scaled_dot_product.*"),
    "GELU": re.compile(r"_GELUOnCPU.*|aten::gelu.*"),
    "norms": re.compile(r"aten::native_layer_norm.*"),
    "low rank: copies, casts": re.compile(r"_ProductWithUpdate.*"),
    "optimizer": re.compile(r"Optimizer\.step.*|aten::_fused_adam.*"),
}
"""Which operations belong to a part of the work: these, and all that they call."""


def main() -> None:
    """Print the operations of some steady updates, the most expensive first."""
    names = [item.name for item in ITEMS if item.kind == "updates"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("item", choices=names)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    item = next(item for item in ITEMS if item.name == arguments.item)
    item = replace(item, num_rows=8 * (item.warm_up + UPDATES))
    with TemporaryDirectory() as name:
        root, data = Path(name), arguments.data.absolute()
        folder = make_folder(item.model, root, data, quick=False)
        path, _ = make_work(item, folder, data, "bf16", arguments.threads, root)
        steps = training(read_work(path))
        list(islice(steps, item.warm_up))
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, record_shapes=True) as record:
        seconds = sum(step.seconds for step in steps)
    by_time = f"self_{'cuda' if torch.cuda.is_available() else 'cpu'}_time_total"
    print(f"{UPDATES} updates, {seconds / UPDATES:.3f} s each")
    print(record.key_averages().table(sort_by=by_time, row_limit=20, max_name_column_width=40))
    print_parts(record.events())
    shapes = record.key_averages(group_by_input_shape=True)
    print(shapes.table(sort_by=by_time, row_limit=25, max_name_column_width=40))


def print_parts(events: Iterable[FunctionEvent]) -> None:
    """Print the share of each part of the work in the processor's time."""
    spent: Counter[str] = Counter()
    for event in events:
        spent[part_of(event)] += event.self_cpu_time_total
    for part, time in spent.most_common():
        print(f"{part:30} {time / spent.total():6.1%}")


def part_of(event: FunctionEvent) -> str:
    """Return the part an operation belongs to, by its own name or the nearest of its callers'."""
    is_product = PRODUCTS.fullmatch(event.name) is not None
    caller = event
    while caller is not None:
        for part, names in PARTS.items():
            if names.fullmatch(caller.name):
                if is_product:
                    return part if part.endswith("products") else "blocks: products"
                return "loss" if part.endswith("products") else part
        caller = caller.cpu_parent
    return "blocks: products" if is_product else "rest"


if __name__ == "__main__":
    main()
