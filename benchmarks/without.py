"""What single tricks bring in time: `python -m benchmarks.without lora_lm`.

The same updates are made with all of them and without one, in turns in one process.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.items import ITEMS
from benchmarks.ours import training
from benchmarks.prepare import make_folder, make_work
from benchmarks.profile import DATA
from benchmarks.worker import read_work
from tunewise.models import language_model, layers
from tunewise.models.attention import Attention, Run
from tunewise.models.fast import loss as scoring
from tunewise.training.loop import Step


def mix(
    self: Attention, query: Tensor, key: Tensor, value: Tensor, runs: list[Run], past: None
) -> Tensor:
    """Attention by PyTorch's function, run by run, in fp32, all of which is kept."""
    sizes = [num_sequences * length for num_sequences, length in runs]
    queries, keys, values = (torch.split(part.float(), sizes) for part in (query, key, value))
    parts = zip(queries, keys, values, runs, strict=True)
    return torch.cat([self._attend(*part, past, 0.0) for part in parts]).to(query.dtype)


WITHOUT: dict[str, Callable[[], object]] = {
    "as it is": nullcontext,
    "nothing made again": partial(
        patch.object, language_model, "recomputing", lambda states: nullcontext()
    ),
    "GELU by PyTorch": partial(patch.object, layers, "gelu", partial(F.gelu, approximate="tanh")),
    "attention by PyTorch": partial(patch.object, Attention, "mix", mix),
    "loss without tiles": partial(patch.object, scoring, "TILE", 2**62),
}


def main() -> None:
    """Print the processor seconds of an update with every trick, and without each."""
    names = [item.name for item in ITEMS if item.kind == "updates"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("item", choices=names)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    item = next(item for item in ITEMS if item.name == arguments.item)
    runs: dict[str, Iterator[Step]] = {}
    with TemporaryDirectory() as name:
        root, data = Path(name), arguments.data.absolute()
        folder = make_folder(item.model, root, data, quick=False)
        path, _ = make_work(item, folder, data, "bf16", arguments.threads, root)
        seconds: dict[str, list[float]] = {name: [] for name in WITHOUT}
        for number in range(1 + arguments.updates):
            for name in list(WITHOUT) if number % 2 else list(WITHOUT)[::-1]:
                if number == 0:
                    runs[name] = training(read_work(path))
                with WITHOUT[name]():
                    started = time.process_time()
                    next(runs[name])
                    seconds[name].append(time.process_time() - started)
    whole = seconds["as it is"][1:]  # the first warms up
    for name, found in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(whole, found[1:], strict=True))
        print(f"{name:24} {statistics.mean(found[1:]):8.3f} s/update  {ratio:6.3f}")


if __name__ == "__main__":
    main()
