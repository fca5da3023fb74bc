"""Thousands of broken files, made from sound ones: each is read, or refused in one line, soon.

What is tried depends on its kind and number alone, so that a failure can be had again. `make
torture` tries TUNEWISE_FUZZ inputs in all; without it there are some 5,000.
"""

import copy
import gzip
import json
import os
import random
import resource
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
import torch
from pyarrow import parquet

from tunewise.config import RunConfig, make_config
from tunewise.data.rows import read_rows, stream_rows
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError
from tunewise.models.folder import load_model
from tunewise.predict import load
from tunewise.runs.folder import read_predictions, read_result
from tunewise.runs.model import adapted_model
from tunewise.settings import validate
from tunewise.studies.study import read_study
from tunewise.studies.trials import candidates_of

NUM_INPUTS = int(os.environ.get("TUNEWISE_FUZZ", "5000"))
SECONDS = 5.0
"""What one input may take; the slowest takes a tenth of it on an idle machine."""
MEMORY = 2**30
"""Bytes of address space that one kind of input may need more than there was."""

HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 8, 2**31, 2**63, 2**64, -(2**63), 10**30, 1.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "8", "-1", "true", "null", "NaN", "\0", "\ud800", "\u2028"),
    *("../../etc/passwd", "/etc/passwd", "a\nb", "<script>", "{", "{text}", "{text!r}", "\x1b[2J"),
    *("%s%n", "gpt2", "lora", "F32", "I64", "BOOL", "x" * 5000, "~nobody-here/x", "a" * 300),
    *([], {}, [[]], [None], {"": ""}, {"a": 1}, [1, 2], [0, 2**62], [-1, -1], {"kind": "lora"}),
]
SNIPPETS = [
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf0\x9f", b"\r", b"\n", b"\r\n", b'"', b"'"),
    *(b"{", b"}", b"[", b"]", b",", b":", b"- ", b"\t", b"&a ", b"*a", b"<<: ", b"!!int ", b"? "),
    *(b"\\ud800", b"\\u0000", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 2000, b"{" * 40),
    *(b'{"a":' * 2000, b"\xef\xbb\xbf", b"\x1f\x8b", b"#", b"|", b">", b"%", b"@", b"`", b"=1"),
]

Broken = Callable[[random.Random, Path], None]
"""Writes one broken input into an empty folder."""
Read = Callable[[Path, random.Random], object]


def bytes_broken(chance: random.Random, content: bytes) -> bytes:
    """Return a file with one to four wounds."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        length = chance.choice([1, 1, 2, 8, 64, 1000])
        wound = chance.randrange(7)
        if wound == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif wound == 1:
            del data[at : at + length]
        elif wound == 2:
            data[at:at] = chance.choice(SNIPPETS)
        elif wound == 3:
            data[at : at + length] = chance.randbytes(length)
        elif wound == 4:
            data[at:at] = data[: chance.randrange(len(data) + 1)][-1000:]
        elif wound == 5:
            data[at : at + 4] = chance.choice(SNIPPETS)
        else:
            del data[at:]
    return bytes(data)


def values_broken(chance: random.Random, values: Any) -> Any:
    """Return a JSON value in which one to three parts are others, missing, doubled or renamed."""
    values = copy.deepcopy(values)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(values))
        if not places:
            return chance.choice(HOSTILE)
        inside, key = chance.choice(places)
        change = chance.randrange(5)
        if change == 0:
            del inside[key]
        elif change == 1:
            inside[key] = copy.deepcopy(
                chance.choice([one[k] for one, k in places if k in _keys(one)])
            )
        elif change == 2 and isinstance(inside, dict):
            inside[str(chance.choice(HOSTILE))[:50]] = inside.pop(key)
        else:
            inside[key] = copy.deepcopy(chance.choice(HOSTILE))
    return values


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    for key in _keys(values):
        yield values, key
        yield from _places(values[key])


def _keys(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return list(values)
    return list(range(len(values))) if isinstance(values, list) else []


def as_json(chance: random.Random, values: Any) -> bytes:
    """Return broken values as JSON, or sound ones as broken JSON."""
    if chance.random() < 0.3:
        return bytes_broken(chance, json.dumps(values).encode())
    return json.dumps(values_broken(chance, values)).encode()


def safetensors_broken(chance: random.Random, content: bytes) -> bytes:
    """Return a safetensors file whose header lies, is torn or is of another size."""
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    torn = chance.randrange(6)
    if torn == 0:
        return bytes_broken(chance, content)
    if torn == 1:
        return (
            chance.choice([0, 1, length - 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little")
            + content[8:]
        )
    if torn == 2:
        names = [name for name in header if name != "__metadata__"]
        begin = chance.choice([0, -1, 1, 2**40, 2**64, len(body)])
        lie = {
            "data_offsets": [begin, chance.choice([begin, begin + 4, 2**63, len(body) + 1])],
            "shape": chance.choice(
                [[], [0], [2**62, 4], [2**32, 2**32], [1] * 70, [-1, 4], [0, 2**63]]
            ),
            "dtype": chance.choice(["F64", "F8_E4M3", "F4", "I8", "U64", "C64", "F32", "X", ""]),
        }
        fields = chance.sample(list(lie), chance.randint(1, 3))
        header[chance.choice(names)].update({field: lie[field] for field in fields})
        text = json.dumps(header).encode()
    else:
        text = as_json(chance, header)
    return struct.pack("<Q", len(text)) + text + body


@contextmanager
def bounded() -> Iterator[None]:
    """Let the block have a little more memory than there is."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def stop(*_: Any) -> None:
    raise TimeoutError(f"took more than {SECONDS} s")


def fuzz(kind: str, share: float, folder: Path, broken: Broken, read: Read) -> None:
    """Read broken inputs; any end but success and one line of a TunewiseError fails."""
    failures, num_refused = [], 0
    count = round(NUM_INPUTS * share)
    before = signal.signal(signal.SIGALRM, stop)
    with bounded():
        for number in range(count):
            chance = random.Random(f"{kind} {number}")
            place = folder / "input"
            place.mkdir()
            broken(chance, place)
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                read(place, chance)
            except TunewiseError as error:
                num_refused += 1
                message = str(error)
                if "\n" in message or not message.isprintable() or not 5 < len(message) < 2500:
                    failures.append(f"{number}: message {message!r}")
            except BaseException as error:  # a panic of Rust code is none of Exception's
                signal.setitimer(signal.ITIMER_REAL, 0)
                failures.append(f"{number}: {type(error).__name__}: {error!s:.200}")
                if os.environ.get("TUNEWISE_FUZZ_RAISE"):
                    raise
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            SLOWEST[kind] = max(SLOWEST.get(kind, 0.0), time.perf_counter() - start)
            shutil.rmtree(place)
    signal.signal(signal.SIGALRM, before)
    print(f"{kind}: {count} inputs, {num_refused} refused, slowest {SLOWEST[kind]:.3f} s")
    assert not failures, f"{len(failures)} of {count}:\n" + "\n".join(failures[:20])
    assert num_refused > count / 20  # or the inputs are not broken at all


SLOWEST: dict[str, float] = {}

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


TASKS: list[dict[str, Any]] = [
    {"kind": "classification"},
    {"kind": "instruction"},
    {"kind": "cloze", "template": "{text}", "verbalizers": {"good": " yes", "bad": " no"}},
    {"kind": "summarization", "template": "{text*}{n}\n", "summary": "{label}"},
    {"kind": "generation", "text": "text", "given_lines": 1},
    {"kind": "language_modeling"},
]


def read_some_rows(folder: Path, chance: random.Random) -> None:
    path = next(folder.iterdir())
    if chance.random() < 0.2:
        list(stream_rows(path))
        return
    fields = {"task": {**chance.choice(TASKS), "path": folder}}
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


@torch.no_grad()
def test_safetensors_headers(tmp_path: Path, model_folder: Path) -> None:
    content = (model_folder / "model.safetensors").read_bytes()

    def broken(chance: random.Random, folder: Path) -> None:
        shutil.copy(model_folder / "config.json", folder)
        (folder / "model.safetensors").write_bytes(safetensors_broken(chance, content))

    def read(folder: Path, _: random.Random) -> None:
        load_model(folder).set_precision(torch.float32)

    fuzz("safetensors", 0.2, tmp_path, broken, read)


def test_model_configurations(tmp_path: Path, model_folder: Path) -> None:
    values = json.loads((model_folder / "config.json").read_text())
    names = [name for name in _header_names(model_folder / "model.safetensors")]
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    neo = {
        **{
            "model_type": "gpt_neo",
            "vocab_size": 257,
            "max_position_embeddings": 48,
            "num_layers": 2,
        },
        **{"hidden_size": 16, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    }

    def broken(chance: random.Random, folder: Path) -> None:
        shutil.copy(model_folder / "model.safetensors", folder)
        which = chance.randrange(3)
        config = values if which else neo
        text = json.dumps(values).encode() if which == 1 else as_json(chance, config)
        (folder / "config.json").write_bytes(text)
        if which == 1:
            (folder / "model.safetensors.index.json").write_bytes(as_json(chance, index))

    fuzz("config.json", 0.1, tmp_path, broken, lambda folder, _: load_model(folder))


def _header_names(path: Path) -> list[str]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return [name for name in json.loads(content[8 : 8 + length]) if name != "__metadata__"]


def test_tokenizers(tmp_path: Path, model_folder: Path) -> None:
    whole = json.loads((model_folder / "tokenizer.json").read_text())
    named = json.loads((model_folder / "tokenizer_config.json").read_text())

    def broken(chance: random.Random, folder: Path) -> None:
        sound = chance.random() < 0.2
        text = json.dumps(whole).encode() if sound else as_json(chance, whole)
        (folder / "tokenizer.json").write_bytes(text)
        text = as_json(chance, named) if sound else json.dumps(named).encode()
        (folder / "tokenizer_config.json").write_bytes(text)

    def read(folder: Path, _: random.Random) -> None:
        tokenizer = Tokenizer.load(folder)
        ids = tokenizer.tokenize(["a good film", "", "naïve 🎬\0"])
        assert all(0 <= i < tokenizer.size for some in ids for i in some)
        tokenizer.decode(ids[0])

    fuzz("tokenizer.json", 0.04, tmp_path, broken, read)


@pytest.mark.parametrize(
    ("method", "liar"),
    [
        ("lora", "adapter_config.json"),
        ("lora", "adapter_model.safetensors"),
        ("soft_prompt", "adapter_config.json"),
        ("soft_prompt", "adapter_model.safetensors"),
    ],
)
def test_adapter_folders(
    tmp_path: Path,
    method: str,
    liar: str,
    model_folder: Path,
    rows: Path,
    exported: Callable[[str], Path],
) -> None:
    source = exported(method)
    values = json.loads((source / "adapter_config.json").read_text())
    content = (source / "adapter_model.safetensors").read_bytes()
    tokenizer = Tokenizer.load(model_folder)
    task = {"kind": "classification", "path": str(rows), "labels": {"good": "good", "bad": "bad"}}

    def broken(chance: random.Random, folder: Path) -> None:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(source / name, folder)
        is_config = liar == "adapter_config.json"
        lie = as_json(chance, values) if is_config else safetensors_broken(chance, content)
        (folder / liar).write_bytes(lie)

    def read(folder: Path, _: random.Random) -> None:
        method_of_folder = {"kind": method, "from": folder}
        fields = {"model": str(model_folder), "task": task, "method": method_of_folder}
        config = validate(RunConfig, fields, "fuzz")
        adapted_model(config, model_folder, tokenizer).set_precision(torch.float32)

    fuzz(f"{liar} of {method}", 0.03, tmp_path, broken, read)


def test_run_folders(tmp_path: Path, finished: Callable[[str], Path]) -> None:
    source = finished("lora")
    content = (source / "adapter" / "adapter.safetensors").read_bytes()

    def broken(chance: random.Random, folder: Path) -> None:
        for name in ("config.yaml", "result.json", "predictions.jsonl"):
            (folder / name).write_bytes((source / name).read_bytes())
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter.safetensors").write_bytes(content)
        which = chance.randrange(4)
        if which == 0:
            (folder / "adapter" / "adapter.safetensors").write_bytes(
                safetensors_broken(chance, content)
            )
        elif which == 1:
            result = json.loads((source / "result.json").read_text())
            (folder / "result.json").write_bytes(as_json(chance, result))
        else:
            name = "config.yaml" if which == 2 else "predictions.jsonl"
            (folder / name).write_bytes(bytes_broken(chance, (source / name).read_bytes()))

    def read(folder: Path, _: random.Random) -> None:
        read_result(folder)
        read_predictions(folder / "predictions.jsonl")
        load(folder).predict([{"text": "a good film"}])

    fuzz("run folder", 0.04, tmp_path, broken, read)
