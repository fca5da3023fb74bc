"""What a set-up takes, before anything of its model is loaded: its own code, in rehearsal.

A model without contents makes an ordinary update, its largest, and the largest passes of its
evaluations. See `rehearsal` for how.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.data.rows import Split
from tunewise.device import choose_dtype
from tunewise.estimate.rehearsal import Operation, Rehearsal
from tunewise.memory import GIB
from tunewise.metrics import METRICS
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model
from tunewise.runs.answer import answer
from tunewise.runs.prepare import Prepared
from tunewise.training.best import BestState
from tunewise.training.config import TrainConfig
from tunewise.training.frozen_blocks import keeps_last, lengths_kept
from tunewise.training.loop import Step, epoch_order, train
from tunewise.training.optimizers import build_optimizer


@dataclass(frozen=True)
class Work:
    """What a set-up takes, on any machine."""

    peak_bytes: int
    """Of tensors that are alive at once."""
    heap_bytes: int
    """Of those, and the holes between them that a processor's memory has."""
    states_bytes: int
    """Of the output of frozen first blocks, which is read from the disk."""
    pass_tokens: int
    """How many tokens its largest pass has."""
    num_updates: int
    """An epoch."""
    num_sizes: int
    """How many different numbers of tokens these have."""
    update: list[Operation]
    """Of an update with as many tokens as most."""
    forward: list[Operation]
    """Of a pass in evaluation."""
    forward_tokens: int
    """How many tokens that pass has."""
    prefix: list[Operation]
    """Of a pass that computes the output of frozen first blocks; none if it is not kept."""
    prefix_tokens: int
    """How many tokens that pass has."""
    tokens: dict[Split, int]
    """Of each split."""


def rehearse(prepared: Prepared) -> Work:
    """Return what a set-up takes."""
    settings = prepared.config.train.model_copy(update={"epochs": 1, "compile": "off"})
    tokens_per_pass = settings.tokens_per_pass
    config = prepared.config.model_copy(update={"train": settings})
    model = _hollow_model(prepared)
    sequences = prepared.encoded["train"].sequences
    updates = list(_updates(sequences, settings, prepared.config.seed))
    by_size = sorted(updates, key=_num_tokens)
    largest, ordinary = by_size[-1], by_size[len(by_size) // 2]
    evaluated: dict[Split, list[Encoded]] = {
        split: _longest(encoded.sequences, tokens_per_pass)
        for split, encoded in prepared.encoded.items()
        if split != "train"
    }
    states_bytes = _states_bytes(prepared, model)
    keeps = states_bytes > 0

    prefixed = _longest(sequences, tokens_per_pass) if keeps else []

    rehearsal = Rehearsal()
    rehearsal.hold(model.parameters())
    weight_bytes = rehearsal.held_bytes
    with rehearsal:
        if keeps:
            _compute_states(model, prefixed)
        of_prefix = rehearsal.operations[:]
        optimizer = build_optimizer(model, settings.optimizer, settings.weight_decay)
        best = BestState(METRICS[config.metric])

        def update(chosen: Sequence[Encoded]) -> Step:
            one = settings.model_copy(update={"batch_size": len(chosen)})
            known = _with_states(model, chosen) if keeps else chosen
            (step,) = train(model, known, one, config.seed, optimizer)
            return step

        def evaluation(split: Split) -> list[Operation]:
            started = len(rehearsal.operations)
            names = {sequence.example_id for sequence in evaluated[split]}
            examples = [example for example in prepared.examples[split] if example.id in names]
            known = _with_states(model, evaluated[split]) if keeps else evaluated[split]
            encoded = replace(prepared.encoded[split], sequences=known)
            answer(config, model, prepared.tokenizer, examples, encoded, metrics=())
            return rehearsal.operations[started:]

        started = len(rehearsal.operations)
        update(ordinary)
        of_update = rehearsal.operations[started:]
        # What is kept at one evaluation is there in the updates before the next.
        for _ in range(2 if num_evaluations(prepared.config.train, len(updates)) > 1 else 1):
            step = update(largest)
            of_evaluation = evaluation("validation")
            best.keep_if_better(model, {config.metric: 0.0}, step)
        if "test" in evaluated:
            del optimizer
            best.restore(model)
            evaluation("test")
    return Work(
        peak_bytes=rehearsal.peak_bytes,
        heap_bytes=weight_bytes + rehearsal.heap.size,
        states_bytes=states_bytes,
        pass_tokens=max(batch.num_tokens for batch in pack(largest, settings.tokens_per_pass)),
        num_updates=len(updates),
        num_sizes=len({_num_tokens(update) for update in updates}),
        update=of_update,
        forward=of_evaluation,
        forward_tokens=_num_tokens(evaluated["validation"]),
        prefix=of_prefix,
        prefix_tokens=_num_tokens(prefixed),
        tokens={split: _num_tokens(part.sequences) for split, part in prepared.encoded.items()},
    )


def num_evaluations(train: TrainConfig, num_updates: int) -> int:
    """Return how often validation data is evaluated.

    Args:
        num_updates: an epoch.
    """
    whole = train.epochs * num_updates
    every = train.evaluate_every or num_updates
    return max(1, math.ceil(whole / every))


def _hollow_model(prepared: Prepared) -> LanguageModel:
    """Return the adapted model: on the CPU, in its true size, with weights never touched."""
    config = prepared.config
    model = build_model(prepared.shape)
    if config.task.label_names is not None:
        model.use_label_head(len(config.task.label_names))
    config.method.adapt(model, torch.Generator(), prepared.tokenizer)
    model.set_precision(choose_dtype(config.train.precision, prepared.device))
    is_tied = model.head_is_tied
    # As `to_empty` does, which imports sympy.
    model._apply(  # type: ignore[no-untyped-call]  # torch has no types here
        lambda weight: torch.empty(weight.shape, dtype=weight.dtype)
    )
    if is_tied:  # the layer itself, which may have an update beside it
        head = getattr(model.head, "base", model.head)
        head.weight = model.get_parameter("token_embedding.weight")
    model.set_dropout(config.train.dropout)
    model.checkpointing = config.train.checkpointing
    return model


def _updates(
    sequences: Sequence[Encoded], train: TrainConfig, seed: int
) -> Iterator[list[Encoded]]:
    """Yield the sequences of each update of the first epoch."""
    units = train.objective.units(sequences)
    order = epoch_order(len(units), 0, seed)
    for start in range(0, len(order), train.batch_size):
        places = order[start : start + train.batch_size]
        yield [sequence for place in places for sequence in units[place]]


def _longest(sequences: Sequence[Encoded], tokens_per_pass: int) -> list[Encoded]:
    """Return the sequences of the pass with the most tokens: evaluations are packed by length."""
    chosen: list[Encoded] = []
    room = tokens_per_pass
    for sequence in sorted(sequences, key=lambda sequence: len(sequence.ids), reverse=True):
        room -= len(sequence.ids)
        if chosen and room < 0:
            break
        chosen.append(sequence)
    return chosen


def _states_bytes(prepared: Prepared, model: LanguageModel) -> int:
    """Return how much of the output of frozen blocks is kept; 0 if none is."""
    limit = prepared.config.train.frozen_cache
    if model.frozen_depth == 0 or model.dropout > 0:
        return 0
    splits = ("train",) if prepared.config.task.answer == "choice" else tuple(prepared.encoded)
    width = model.config.model_dim * model.compute_dtype.itemsize
    sizes = [
        width * sum(lengths_kept(model, prepared.encoded[split].sequences)) for split in splits
    ]
    return sum(size for size in sizes if size <= limit * GIB)


@torch.inference_mode()
def _compute_states(model: LanguageModel, sequences: Sequence[Encoded]) -> None:
    (batch,) = pack(sequences, tokens_per_pass=sys.maxsize)
    rows = batch.scored if keeps_last(model, sequences) else None
    model.frozen_states(batch.tokens, batch.positions, batch.segments, rows)


def _with_states(model: LanguageModel, sequences: Sequence[Encoded]) -> list[Encoded]:
    """Return sequences with the output of frozen blocks, of the right size."""
    width, dtype = model.config.model_dim, model.compute_dtype
    return [
        replace(sequence, states=torch.empty(length, width, dtype=dtype))
        for sequence, length in zip(sequences, lengths_kept(model, sequences), strict=True)
    ]


def _num_tokens(sequences: Sequence[Encoded]) -> int:
    return sum(len(sequence.ids) for sequence in sequences)
