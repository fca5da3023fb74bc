"""Broken rows, configurations and studies."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from tunewise.config import RunConfig, make_config
from tunewise.data.rows import read_rows, stream_rows
from tunewise.settings import validate
from tunewise.studies.read import read_study
from tunewise.studies.trials import candidates_of
from tunewise.tasks import TASKS

from .breaking import bytes_broken, values_broken
from .fuzzing import fuzz

pytestmark = pytest.mark.slow

# Arrow's other pools reserve more addresses at once than the limit of these tests leaves.
arrow.set_memory_pool(arrow.system_memory_pool())

ROWS = [
    {"text": "a good film", "label": "good", "n": 1, "instruction": "do", "output": "done"},
    {"text": "naïve 🎬", "label": "bad", "n": None, "instruction": "", "output": ""},
    {"text": "two\nlines", "label": 1, "messages": [{"role": "user", "content": "x"}]},
    {"text": "so", "label": True, "n": [1, {"a": []}], "prompt": "p", "completion": "c"},
]
FORMATS = ["jsonl", "json", "csv", "tsv", "txt", "parquet", "jsonl.gz", "csv.gz", "json.gz"]


def row_file(form: str, values: list[Any]) -> bytes:
    if form == "parquet":
        sink = arrow.BufferOutputStream()
        plain = [{"text": str(row["text"]), "label": str(row["label"])} for row in ROWS]
        parquet.write_table(arrow.Table.from_pylist(plain), sink)
        return bytes(sink.getvalue())
    if form.startswith("jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in values)
    elif form.startswith("json"):
        text = json.dumps(values)
    else:
        between = "\t" if form == "tsv" else ","
        text = (
            between.join(["text", "label"]) + "\n" + f'"one, two"{between}good\nthree{between}bad\n'
        )
    return text.encode()


def broken_rows(chance: random.Random, folder: Path) -> None:
    form = chance.choice(FORMATS)
    if chance.random() < 0.5 and form.startswith("json"):
        broken = values_broken(chance, ROWS)
        content = row_file(form, broken if isinstance(broken, list) else [broken])
    else:
        content = bytes_broken(chance, row_file(form, ROWS))
    if form.endswith(".gz"):
        content = gzip.compress(content)
        content = bytes_broken(chance, content) if chance.random() < 0.3 else content
    (folder / f"train.{form}").write_bytes(content)


FIELDS: dict[str, dict[str, Any]] = {
    "cloze": {"template": "{text}", "verbalizers": {"good": " yes", "bad": " no"}},
    "summarization": {"template": "{text*}{n}\n", "summary": "{label}"},
    "generation": {"text": "text", "given_lines": 1},
}
"""Settings that a kind of task needs beside a path to read the rows."""


def read_some_rows(folder: Path, chance: random.Random) -> None:
    path = next(folder.iterdir())
    if chance.random() < 0.2:
        list(stream_rows(path))
        return
    kind = chance.choice(list(TASKS))
    fields = {"task": {"kind": kind, "path": folder} | FIELDS.get(kind, {})}
    task = validate(RunConfig, fields, "fuzz").task
    task.examples("train")
    for row in read_rows(path):
        task.prompt_of(row)


CONFIG: dict[str, Any] = {
    "model": "pocket",
    "task": {
        **{"kind": "classification", "path": "rows.csv", "labels": {"0": "bad", "1": "good"}},
        **{"samples": {"train": 9, "test": 8}, "template": "{text}: {other}"},
    },
    "method": {
        "kind": "lora",
        "rank": 8,
        "alpha": 16,
        "targets": ["query", "value"],
        "blocks": [0, 1],
    },
    "train": {
        **{
            "epochs": 2,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "early_stopping": {"patience": 2},
        },
        **{"tokens_per_pass": 512, "precision": "fp32"},
    },
    "seed": 3,
}
STUDY: dict[str, Any] = {
    "name": "fuzzed",
    "base": CONFIG,
    "runs": [{"name": "one", "method": "full"}, {"method.rank": 2, "fields": {"seed": 1}}],
    "vary": {"train.epochs": [1, 2], "seed, train.batch_size": [[1, 2], [3, 4]]},
    "tune": {"train.learning_rate": [1e-3, 1e-4], "method": ["full", {"kind": "lora", "rank": 2}]},
    "published": {"one, epochs=1, seed=1, batch_size=2": {"accuracy": 0.5}},
    "seeds": 2,
}


def broken_yaml(chance: random.Random, folder: Path) -> None:
    name, values = chance.choice([("config.yaml", CONFIG), ("study.yaml", STUDY)])
    if chance.random() < 0.4:
        content = bytes_broken(chance, json.dumps(values, indent=2).encode())
    else:
        text = json.dumps(values_broken(chance, values), ensure_ascii=chance.random() < 0.5)
        content = text.encode("utf-8", "surrogatepass")
    (folder / name).write_bytes(content)


def read_config_or_study(folder: Path, chance: random.Random) -> None:
    path = next(folder.iterdir())
    if path.name == "config.yaml":
        make_config(path)
        return
    study = read_study(path)
    for cell in study.cells():
        candidates_of(study, cell, folder)


def test_rows(tmp_path: Path) -> None:
    fuzz("rows", 0.3, tmp_path, broken_rows, read_some_rows)


def test_yaml_files(tmp_path: Path) -> None:
    fuzz("yaml", 0.2, tmp_path, broken_yaml, read_config_or_study)
