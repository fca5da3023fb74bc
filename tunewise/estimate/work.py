"""The work of a run: its memory and its operations, from a rehearsal without weights.

The run's own code makes an ordinary update, its largest one and the largest passes of its
evaluations, on a model whose weights hold nothing. See `rehearsal` for how that is counted.
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
from tunewise.methods.method import unwrapped
from tunewise.metrics import METRICS
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model
from tunewise.runs.predictions import predict_examples
from tunewise.runs.prepare import Prepared
from tunewise.training.best import BestState
from tunewise.training.config import TrainConfig
from tunewise.training.frozen_blocks import keeps_last, lengths_kept
from tunewise.training.loop import epoch_order, train
from tunewise.training.optimizers import build_optimizer


@dataclass(frozen=True)
class Work:
    """The memory and the operations of a run, on any machine."""

    peak_bytes: int
    """Most bytes of tensors that are alive at once."""
    heap_bytes: int
    """Largest extent of a CPU's heap: those tensors, and the holes between them."""
    states_bytes: int
    """Bytes of the output of frozen first blocks, which is read from the disk."""
    pass_tokens: int
    """Tokens of the largest pass in training."""
    num_updates: int
    """Updates of an epoch."""
    num_sizes: int
    """Number of different sizes, in tokens, of these updates."""
    update: list[Operation]
    """Operations of an update of median size."""
    evaluation_pass: list[Operation]
    """Operations of the largest pass over validation data."""
    evaluation_tokens: int
    """Tokens of that pass."""
    frozen_pass: list[Operation]
    """Operations of a pass that computes the output of frozen first blocks; none if not kept."""
    frozen_tokens: int
    """Tokens of that pass."""
    tokens: dict[Split, int]
    """Tokens of each split."""


def rehearse(prepared: Prepared) -> Work:
    """Return the work of a run, from its parts in the order in which a run has them."""
    config = prepared.config
    sequences = prepared.encoded["train"].sequences
    updates = list(_updates(sequences, config.train, config.seed))
    by_size = sorted(updates, key=_num_tokens)
    largest, ordinary = by_size[-1], by_size[len(by_size) // 2]

    run, rehearsal = _HollowRun(prepared), Rehearsal()
    frozen_sequences = _longest_pass(sequences, config.train) if run.keeps_states else []
    rehearsal.hold(run.model.parameters())
    weight_bytes = rehearsal.held_bytes
    with rehearsal:
        frozen_pass = rehearsal.operations_of(run.compute_states, frozen_sequences)
        run.start_training()
        ordinary, largest = run.prepare(ordinary), run.prepare(largest)
        update = rehearsal.operations_of(run.update, ordinary)
        # Tensors of an evaluation are still in memory during the updates before the next one.
        for _ in range(2 if count_evaluations(config.train, len(updates)) > 1 else 1):
            run.update(largest)
            evaluation_pass = rehearsal.operations_of(run.evaluate, "validation")
            run.keep_state()
        if "test" in prepared.encoded:
            run.end_training()
            run.evaluate("test")

    return Work(
        peak_bytes=rehearsal.peak_bytes,
        heap_bytes=weight_bytes + rehearsal.heap.size,
        states_bytes=run.states_bytes,
        pass_tokens=max(batch.num_tokens for batch in pack(largest, config.train.tokens_per_pass)),
        num_updates=len(updates),
        num_sizes=len({_num_tokens(chosen) for chosen in updates}),
        update=update,
        evaluation_pass=evaluation_pass,
        evaluation_tokens=_num_tokens(run.evaluated["validation"]),
        frozen_pass=frozen_pass,
        frozen_tokens=_num_tokens(frozen_sequences),
        tokens={split: _num_tokens(part.sequences) for split, part in prepared.encoded.items()},
    )


def count_evaluations(train: TrainConfig, num_updates: int) -> int:
    """Return how often validation data is evaluated in a run.

    Args:
        num_updates: updates of an epoch.
    """
    every = train.evaluate_every or num_updates
    return max(1, math.ceil(train.epochs * num_updates / every))


class _HollowRun:
    """A run of a model whose weights hold nothing, in parts."""

    def __init__(self, prepared: Prepared) -> None:
        train = prepared.config.train.model_copy(update={"epochs": 1, "compile": "off"})
        self._prepared = prepared
        self._config = prepared.config.model_copy(update={"train": train})
        self.model = _hollow_model(prepared)
        self.states_bytes = _states_bytes(prepared, self.model)
        self.keeps_states = self.states_bytes > 0
        self.evaluated: dict[Split, list[Encoded]] = {
            split: _longest_pass(encoded.sequences, train)
            for split, encoded in prepared.encoded.items()
            if split != "train"
        }

    @torch.inference_mode()
    def compute_states(self, sequences: Sequence[Encoded]) -> None:
        """Compute the output of frozen first blocks in one pass over some sequences, if any."""
        if not sequences:
            return
        (batch,) = pack(sequences, tokens_per_pass=sys.maxsize)
        self.model.frozen_states(batch, scored_only=keeps_last(self.model, sequences))

    def start_training(self) -> None:
        """Make the optimizer and the best state, which a run keeps while it trains."""
        train = self._config.train
        self._optimizer = build_optimizer(self.model, train.optimizer, train.weight_decay)
        self._best = BestState(METRICS[self._config.metric])

    def prepare(self, sequences: Sequence[Encoded]) -> list[Encoded]:
        """Return sequences with what is kept of them before the first update."""
        train = self._config.train
        known = self._with_states(sequences)
        return train.objective.prepare(self.model, known, train.tokens_per_pass)

    def update(self, sequences: Sequence[Encoded]) -> None:
        """Make one update from some prepared sequences."""
        train_config = self._config.train
        num_units = len(train_config.objective.units(sequences))
        train_config = train_config.model_copy(update={"batch_size": num_units})
        list(train(self.model, sequences, train_config, self._config.seed, self._optimizer))

    def evaluate(self, split: Split) -> None:
        """Evaluate the longest pass of a split."""
        sequences = self.evaluated[split]
        ids = {sequence.example_id for sequence in sequences}
        examples = [example for example in self._prepared.examples[split] if example.id in ids]
        known = self._with_states(sequences)
        encoded = replace(self._prepared.encoded[split], sequences=known)
        predict_examples(self._prepared, self.model, examples, encoded, metrics=())

    def keep_state(self) -> None:
        """Keep the trained weights, as after an evaluation that is the best so far."""
        self._best.keep_if_better(self.model, {self._config.metric: 0.0}, None)

    def end_training(self) -> None:
        """Free the optimizer, and put the best state back."""
        del self._optimizer
        self._best.restore(self.model)

    def _with_states(self, sequences: Sequence[Encoded]) -> list[Encoded]:
        """Return sequences with the output of frozen blocks, of the right size, if it is kept."""
        if not self.keeps_states:
            return list(sequences)
        width, dtype = self.model.config.model_dim, self.model.compute_dtype
        return [
            replace(sequence, states=torch.empty(length, width, dtype=dtype))
            for sequence, length in zip(sequences, lengths_kept(self.model, sequences), strict=True)
        ]


def _hollow_model(prepared: Prepared) -> LanguageModel:
    """Return the adapted model on the CPU, with weights of the true size that are never touched."""
    config = prepared.config
    model = build_model(prepared.shape)
    if config.task.label_names is not None:
        model.use_label_head(len(config.task.label_names))
    config.method.adapt(model, torch.Generator(), prepared.tokenizer)
    model.set_precision(choose_dtype(config.train.precision, prepared.device))
    is_tied = model.head_is_tied
    # This is what `to_empty` does, but that imports sympy.
    model._apply(  # type: ignore[no-untyped-call]  # torch has no types here
        lambda weight: torch.empty(weight.shape, dtype=weight.dtype)
    )
    if is_tied:  # the layer itself, which may have an update beside it
        unwrapped(model.head).weight = model.get_parameter("token_embedding.weight")
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


def _longest_pass(sequences: Sequence[Encoded], train: TrainConfig) -> list[Encoded]:
    """Return the longest sequences that fit into a pass, as evaluations are packed by length."""
    chosen: list[Encoded] = []
    room = train.tokens_per_pass
    for sequence in sorted(sequences, key=lambda sequence: len(sequence.ids), reverse=True):
        room -= len(sequence.ids)
        if chosen and room < 0:
            break
        chosen.append(sequence)
    return chosen


def _states_bytes(prepared: Prepared, model: LanguageModel) -> int:
    """Return the bytes of the output of frozen blocks that is kept; 0 if none is."""
    limit = prepared.config.train.frozen_cache
    if model.frozen_depth == 0 or model.dropout > 0:
        return 0
    reads_sequences = prepared.config.task.answer_kind.reads_sequences
    splits = tuple(prepared.encoded) if reads_sequences else ("train",)
    width = model.config.model_dim * model.compute_dtype.itemsize
    sizes = [
        width * sum(lengths_kept(model, prepared.encoded[split].sequences)) for split in splits
    ]
    return sum(size for size in sizes if size <= limit * GIB)


def _num_tokens(sequences: Sequence[Encoded]) -> int:
    return sum(len(sequence.ids) for sequence in sequences)
