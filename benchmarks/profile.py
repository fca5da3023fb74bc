"""Where the time of tunewise's updates goes: `python -m benchmarks.profile lora_lm`."""

import argparse
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.items import ITEMS
from benchmarks.ours import training
from benchmarks.prepare import make_folder, make_work
from benchmarks.worker import read_work

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
UPDATES = 3


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
    shapes = record.key_averages(group_by_input_shape=True)
    print(shapes.table(sort_by=by_time, row_limit=25, max_name_column_width=40))


if __name__ == "__main__":
    main()
