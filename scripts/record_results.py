"""Record what training computes, to check that a change of the code changes no result.

    python scripts/record_results.py runs/before.json
    python scripts/record_results.py runs/after.json --against runs/before.json

Every method trains the embedded model on three tasks in two precisions for 20 updates, on one
thread. A record holds each run's losses, its predictions and a hash of the trained tensors. With
`--against`, runs that differ are named and the exit code is 1. Records of two processors, or of two
versions of PyTorch, may differ in the last bits.
"""

import argparse
import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from tunewise.config import make_config
from tunewise.methods import METHODS
from tunewise.pocket.grammar import split_reviews
from tunewise.run import run

NUM_UPDATES, BATCH_SIZE = 20, 4
ROWS = {"train": NUM_UPDATES * BATCH_SIZE, "validation": 24, "test": 24}
TASKS: dict[str, dict[str, Any]] = {
    "classification": {},
    "cloze": {
        "template": 'Is "{text}" good or bad? It is',
        "verbalizers": {"negative": " bad", "positive": " good"},
    },
    "instruction": {"decoding": {"max_new_tokens": 8}},
}


def write_rows(folder: Path) -> None:
    """Write the first reviews of each split as rows that all tasks can read."""
    for split, count in ROWS.items():
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for review in split_reviews(split)[:count]:
                row = asdict(review)
                row |= {"instruction": "Name the opinion.", "input": row["text"]}
                row["output"] = f"It is {row['label']}."
                file.write(json.dumps(row) + "\n")


def record_run(method: str, task: str, precision: str, rows: Path, out: Path) -> dict[str, Any]:
    """Return the losses, predictions and tensor hash of one run."""
    fields = {
        "method": method,
        "task": {"kind": task, "path": str(rows), **TASKS[task]},
        "train": {
            "epochs": 1,
            "batch_size": BATCH_SIZE,
            "tokens_per_pass": 256,
            "precision": precision,
        },
    }
    record = run(make_config(fields=fields), out=out)
    (tensors,) = (*out.glob("adapter/*.safetensors"), *out.glob("model/*.safetensors"))
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(tensors).items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return {
        "losses": [step.loss for step in record.steps],
        "predictions": [asdict(prediction) for prediction in record.predictions],
        "tensors": digest.hexdigest(),
    }


def _known(after: Any, before: Any) -> Any:
    """Return what is recorded now, without the fields that an earlier version did not have."""
    if isinstance(after, dict) and isinstance(before, dict):
        return {key: _known(after.get(key), before[key]) for key in before}
    if isinstance(after, list) and isinstance(before, list) and len(after) == len(before):
        return [_known(*pair) for pair in zip(after, before, strict=True)]
    return after


def main() -> int:
    """Write the record; return 1 if it differs from another one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path, help="the file to write")
    parser.add_argument("--against", type=Path, help="an earlier record to compare with")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="default: all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("tunewise").setLevel(logging.ERROR)
    found: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_rows(folder)
        for method in arguments.methods:
            for task in TASKS:
                for precision in ("fp32", "bf16"):
                    name = f"{method} {task} {precision}"
                    out = folder / name.replace(" ", "-")
                    found[name] = record_run(method, task, precision, folder, out)
                    print(name, found[name]["tensors"][:16], flush=True)
    arguments.record.parent.mkdir(parents=True, exist_ok=True)
    arguments.record.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if arguments.against is None:
        return 0
    before = json.loads(arguments.against.read_text("utf-8"))
    # Read back as well, so that both records went through JSON.
    after = json.loads(arguments.record.read_text("utf-8"))
    differences = [
        f"{name}: {part}"
        for name, values in after.items()
        for part in values
        if before.get(name, {}).get(part) != _known(values[part], before.get(name, {}).get(part))
    ]
    print("\n".join(differences) or f"no difference in {len(after)} runs")
    return bool(differences)


if __name__ == "__main__":
    raise SystemExit(main())
