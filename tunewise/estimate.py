"""How much memory and time a run will take, before anything of its model is loaded.

The blocks of a model are alike, so time and memory are straight lines in their number: something
for the rest, so much for each frozen block, so much for each trained one. The lines are measured,
not assumed: a model of the same width with one block, and with three, makes its largest update, an
ordinary one, and an evaluation, with random weights, in a process of its own.
"""

import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunewise.adapted import adapted_model, save_trained
from tunewise.answers import answer, encode, room, virtual_tokens
from tunewise.config import RunConfig
from tunewise.data.encode import Encoded, EncodedSplit
from tunewise.data.example import Example
from tunewise.data.rows import SPLITS, Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_device, choose_dtype, free_bytes, peak_bytes, reset_peak_bytes
from tunewise.methods.last_blocks import LastBlocks
from tunewise.methods.lora import LoRA
from tunewise.metrics import METRICS
from tunewise.models import ModelConfig
from tunewise.models.folder import build_model, find_folder, save_model, shape_of
from tunewise.models.gpt_neo import GPTNeoConfig
from tunewise.models.language_model import initialise
from tunewise.run import settled, tables
from tunewise.shared import Shared
from tunewise.training.best import BestState
from tunewise.training.loop import epoch_order, train
from tunewise.training.prefix import with_frozen_states

OBJECT_BYTES = 1000
"""What Python takes for the objects of one row."""
STEP = 2
"""Blocks by which trials differ: one of each kind of attention that GPT-Neo alternates."""
NUM_TIMED = 3
"""Ordinary updates made, of which the first is not counted."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take on this machine."""

    peak_bytes: int
    free_bytes: int
    """What the device has to give now."""
    epoch_seconds: float
    """Of updates."""
    evaluation_seconds: float
    """Of all evaluations; without texts written, whose length is not known before."""
    prefix_seconds: float
    """For the output of frozen first blocks, if it is not known from an earlier run."""
    epochs: int

    @property
    def seconds(self) -> float:
        """Of the whole run, if it does not stop early."""
        return self.epochs * self.epoch_seconds + self.evaluation_seconds + self.prefix_seconds

    @property
    def fits(self) -> bool:
        """Whether there is memory for it."""
        return self.peak_bytes < self.free_bytes


@dataclass(frozen=True)
class Trial:
    """What a trial is given."""

    config: RunConfig
    shape: ModelConfig
    tokenizer: Tokenizer
    largest: list[Encoded]
    """The sequences of the update with the most tokens."""
    ordinary: list[Encoded]
    """Those of one with as many as most."""
    examples: list[Example]
    evaluated: EncodedSplit
    """Some of them, enough to fill a pass."""


Measured = npt.NDArray[np.float64]
"""(3,): the most bytes held, seconds per token of ordinary updates, seconds per token evaluated."""


def estimate(config: RunConfig, data: Path | None, shared: Shared | None = None) -> Estimate:
    """Return what a run of a configuration will take on this machine.

    Args:
        data: the folder in which a named task's rows are searched.
        shared: keeps rows and token ids for other estimates.

    Raises:
        TunewiseError: if the configuration or its rows cannot be used.
    """
    shared = shared or Shared()
    source, shape, device = find_folder(config.model), shape_of(config.model), choose_device()
    tokenizer = shared.get(source, lambda: Tokenizer.load(source))
    key = config.task.model_dump_json(), data
    examples = {
        split: shared.get((*key, split), partial(config.task.examples, split, data))
        for split in SPLITS
    }
    config = settled(config, examples["train"], device)
    lengths = room(config, shape), virtual_tokens(config, shape)
    encoded = {
        split: shared.get(
            (*key, source, *lengths, split),
            partial(encode, config, split, examples[split], shape, tokenizer),
        )
        for split in SPLITS
    }
    updates = _updates(encoded["train"].sequences, config)
    sizes = [_num_tokens(update) for update in updates]
    trial = Trial(
        config,
        shape,
        tokenizer,
        largest=updates[sizes.index(max(sizes))],
        ordinary=updates[sizes.index(statistics.median_low(sizes))],
        **_evaluated(examples["validation"], encoded["validation"], config.train.tokens_per_pass),
    )
    peak, update_seconds, evaluation_seconds = _whole(trial)
    tokens = {split: _num_tokens(encoded[split].sequences) for split in SPLITS}
    rate = config.train.evaluate_every or len(updates)
    num_evaluations = config.train.epochs * len(updates) // rate
    has_prefix = _parts(config, shape)[0] > 0 and config.train.prefix_cache > 0
    return Estimate(
        peak_bytes=round(peak + _row_bytes(examples, tokens)),
        free_bytes=free_bytes(device),
        epoch_seconds=update_seconds * tokens["train"],
        evaluation_seconds=evaluation_seconds
        * (num_evaluations * tokens["validation"] + tokens["test"]),
        prefix_seconds=evaluation_seconds * sum(tokens.values()) if has_prefix else 0.0,
        epochs=config.train.epochs,
    )


def _updates(sequences: Sequence[Encoded], config: RunConfig) -> list[list[Encoded]]:
    """Return the sequences of each update of the first epoch."""
    order, size = epoch_order(len(sequences), 0, config.seed), config.train.batch_size
    return [
        [sequences[index] for index in order[start : start + size]]
        for start in range(0, len(order), size)
    ]


def _evaluated(
    examples: Sequence[Example], encoded: EncodedSplit, tokens_per_pass: int
) -> dict[str, Any]:
    """Return as many examples as fill two passes, and their sequences."""
    sequences: list[Encoded] = []
    for sequence in encoded.sequences:
        if _num_tokens(sequences) >= 2 * tokens_per_pass:
            break
        sequences.append(sequence)
    names = {sequence.example_id for sequence in sequences}
    return {
        "examples": [example for example in examples if example.id in names],
        "evaluated": EncodedSplit(sequences, 0, 0),
    }


def _whole(trial: Trial) -> Measured:
    """Return what the whole model takes, from trials with fewer blocks."""
    frozen, trained = _parts(trial.config, trial.shape)
    first, second = min(frozen, 1), min(trained, 1)
    points = [(first, second)]
    points += [(first + STEP, second)] if frozen > first else []
    points += [(first, second + STEP)] if trained > second else []
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, context, initializer=_begin, initargs=(folder,)) as pool,
    ):
        here, *others = pool.map(_measure, [_shortened(trial, *point) for point in points])
    whole = here
    for (f, _), there in zip(points[1:], others, strict=True):
        steps = (frozen - first if f > first else trained - second) / STEP
        whole = whole + steps * (there - here)
    return whole


def _parts(config: RunConfig, shape: ModelConfig) -> tuple[int, int]:
    """Return how many blocks are frozen with nothing trained below them, and how many are not."""
    model = build_model(shape)
    if config.task.label_names is not None:
        model.use_label_head(len(config.task.label_names))
    config.method.adapt(model, torch.Generator())
    frozen = min(model.frozen_depth, shape.num_layers)
    return frozen, shape.num_layers - frozen


def _shortened(trial: Trial, frozen: int, trained: int) -> Trial:
    """Return a trial of a model with fewer blocks, whose method does the same to them."""
    shape: dict[str, Any] = {"num_layers": frozen + trained}
    if isinstance(trial.shape, GPTNeoConfig):
        shape["attention"] = trial.shape.attention[: frozen + trained]
    method = trial.config.method
    if isinstance(method, LoRA):
        method = method.model_copy(update={"blocks": f"last-{trained}" if frozen else "all"})
    elif isinstance(method, LastBlocks):
        method = method.model_copy(update={"blocks": trained})
    return replace(
        trial,
        shape=trial.shape.model_copy(update=shape),
        config=trial.config.model_copy(update={"method": method}),
    )


def _begin(folder: str) -> None:
    """Give the process of the trials a cache of its own, so that nothing is known before."""
    os.environ["TUNEWISE_CACHE"] = folder
    logging.getLogger("tunewise").setLevel(logging.ERROR)


def _measure(trial: Trial) -> Measured:
    """Make a model with random weights do what a run does, on a few rows."""
    config, device = trial.config, choose_device()
    limits = config.train.tokens_per_pass, config.train.prefix_cache
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fresh = build_model(trial.shape, "cpu")
        initialise(fresh, torch.Generator().manual_seed(0))
        save_model(fresh, folder, trial.tokenizer.end_of_text)
        del fresh
        reset_peak_bytes(device)
        model = adapted_model(config, folder, trial.tokenizer)
        model.set_precision(choose_dtype(config.train.precision, device))
        model.to(device)
        model.set_dropout(config.train.dropout)
        model.checkpointing = config.train.checkpointing
        seconds = []
        for sequences, epochs in ((trial.largest, 1), (trial.ordinary, NUM_TIMED)):
            known = with_frozen_states(model, sequences, *limits)
            settings = config.train.model_copy(
                update={"epochs": epochs, "batch_size": len(sequences)}
            )
            steps = list(train(model, known, settings, config.seed))
            seconds = [step.seconds for step in steps[1:]]
        BestState(METRICS[config.metric]).offer(model, 0.0, steps[-1])
        started = time.perf_counter()
        predictions = answer(
            config, model, trial.tokenizer, trial.examples, trial.evaluated, metrics=()
        )
        evaluation = time.perf_counter() - started
        tables(config, predictions)
        save_trained(model, config, folder, trial.tokenizer)
        return np.array(
            [
                peak_bytes(device),
                statistics.median(seconds) / _num_tokens(trial.ordinary),
                evaluation / _num_tokens(trial.evaluated.sequences),
            ]
        )


def _num_tokens(sequences: Sequence[Encoded]) -> int:
    return sum(len(sequence.ids) for sequence in sequences)


def _row_bytes(examples: dict[Split, list[Example]], tokens: dict[Split, int]) -> int:
    """Return about what all rows take in memory: texts, token ids, and the objects about them."""
    texts = sum(len(e.prompt) + len(e.target) for some in examples.values() for e in some)
    count = sum(map(len, examples.values()))
    return texts + 4 * sum(tokens.values()) + OBJECT_BYTES * count
