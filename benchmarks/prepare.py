"""What all sides start from: folders of random weights, rows, one configuration."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.flops import decoding_flops, training_flops
from benchmarks.items import COMMON, Item
from benchmarks.worker import Row, Work
from tunewise.config import RunConfig, make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.models import LanguageModel
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import POCKET_FOLDER, build_model, save_model
from tunewise.models.language_model import initialise
from tunewise.runs.model import adapted_model
from tunewise.runs.prepare import layout_of
from tunewise.training.loop import epoch_order, updates_per_epoch

SEED = 0
QUICK = {"model_dim": 64, "num_heads": 4, "mlp_dim": 256}
EVALUATED = 8
"""Rows of the validation and test splits of a whole run, whose evaluation is not timed."""


def make_folder(name: str, root: Path, data: Path, quick: bool) -> Path:
    """Return a folder with random weights in a known model's shape and a tokenizer, made once."""
    folder = root / name
    if folder.is_dir():
        return folder
    tokenizer = make_tokenizer(root, data)
    config = KNOWN_MODELS[name].config
    model = build_model(config.model_copy(update=QUICK) if quick else config, "cpu")
    initialise(model, torch.Generator().manual_seed(SEED))
    save_model(model, folder, tokenizer.end_of_text)
    tokenizer.save(folder)
    return folder


def make_tokenizer(root: Path, data: Path) -> Tokenizer:
    """Return GPT-2's tokenizer if its files are in the data folder, else the embedded model's."""
    source, folder = data / "gpt2_bpe", root / "tokenizer"
    if not source.is_dir():
        return Tokenizer.load(POCKET_FOLDER)
    folder.mkdir(exist_ok=True)
    shutil.copyfile(source / "encoder.json", folder / "vocab.json")
    shutil.copyfile(source / "vocab.bpe", folder / "merges.txt")
    return Tokenizer.load(folder)


def make_work(
    item: Item, model_folder: Path, data: Path, precision: str, threads: int, root: Path
) -> tuple[Path, float]:
    """Write what the workers of an item read; return its file and its useful operations.

    The operations are those of the timed part.
    """
    config = make_config(None, configuration(item, model_folder, precision))
    tokenizer = Tokenizer.load(model_folder)
    model = adapted_model(config, model_folder, tokenizer)
    rows = random_rows(item, model) if item.rows == "random" else sst5(config, model, data)
    initial = root / f"{item.name}-{precision}.safetensors"
    save_file({name: p.detach().contiguous() for name, p in model.trainable()}, initial)
    work = Work(
        kind=item.kind,
        config=config.model_dump(mode="json"),
        rows=rows,
        updates=orders(config, len(rows)),
        warm_up=item.warm_up,
        new_tokens=item.new_tokens,
        threads=threads,
        end_of_text=tokenizer.end_of_text,
        data=str(data),
        initial=str(initial),
        peer_weights=item.peer_weights,
    )
    path = initial.with_suffix(".json")
    path.write_text(json.dumps(asdict(work)), "utf-8")
    return path, useful_flops(work, model, config.method.num_virtual_ids)


def configuration(item: Item, model_folder: Path, precision: str) -> dict[str, Any]:
    """Return the fields of the item's RunConfig."""
    samples = {"train": item.num_rows, "validation": EVALUATED, "test": EVALUATED}
    is_text = item.rows == "random"
    return {
        "model": str(model_folder),
        "task": {"kind": "language_modeling", "path": str(model_folder)}
        if is_text
        else {"name": "sst5", "samples": samples},
        "method": item.method,
        "train": COMMON | {"epochs": item.epochs, "precision": precision} | item.train,
        "seed": SEED,
    }


def random_rows(item: Item, model: LanguageModel) -> list[Row]:
    """Return rows of random ids: of one length to train on, of uneven lengths to write after."""
    generator = torch.Generator().manual_seed(SEED)
    lengths = torch.full((item.num_rows,), item.length)
    if item.kind == "decode":
        lengths = torch.randint(8, item.length + 1, (item.num_rows,), generator=generator)
    # Past the first id, which a small vocabulary's tokenizer ends its texts with, and short of the
    # last, which is GPT-2's end of text.
    high = model.config.vocabulary_size - 1
    return [
        Row(torch.randint(1, high, (length,), generator=generator).tolist())
        for length in lengths.tolist()
    ]


def sst5(config: RunConfig, model: LanguageModel, data: Path) -> list[Row]:
    """Return real sentences, in the order in which tunewise reads them."""
    examples, tokenizer = config.task.examples("train", data), Tokenizer.load(Path(config.model))
    encoded = config.task.encode(examples, tokenizer, layout_of(config, model.config))
    return [Row(sequence.ids.tolist(), sequence.label) for sequence in encoded.sequences]


def orders(config: RunConfig, num_rows: int) -> list[list[int]]:
    """Return the rows of each update, as tunewise shuffles them."""
    size, updates = config.train.batch_size, []
    for epoch in range(config.train.epochs):
        order = epoch_order(num_rows, epoch, config.seed)
        per_epoch = updates_per_epoch(num_rows, config.train)
        updates += [order[index * size : (index + 1) * size] for index in range(per_epoch)]
    return updates


def timed_rows(work: Work) -> list[Row]:
    """Return the rows of the timed part, each as often as it occurs."""
    if work.kind == "decode":
        return work.rows
    skipped = work.warm_up if work.kind == "updates" else 0
    return [work.rows[index] for chosen in work.updates[skipped:] for index in chosen]


def useful_flops(work: Work, model: LanguageModel, prefix_length: int) -> float:
    """Return the operations that the timed part cannot do without."""
    rows = timed_rows(work)
    lengths = [prefix_length + len(row.ids) for row in rows]
    if work.kind == "decode":
        return decoding_flops(model, lengths, [work.new_tokens] * len(rows))
    num_scored = sum(1 if row.label is not None else len(row.ids) - 1 for row in rows)
    return training_flops(model, lengths, num_scored)
