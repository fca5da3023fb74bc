"""What a set-up would take with each method, and on each machine; and what to do if it is much."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tunewise.config import RunConfig
from tunewise.data.rows import SPLITS
from tunewise.device import Precision, choose_device
from tunewise.estimate.expected import estimate_run, on, work_of
from tunewise.estimate.machines import GPUS, Machine
from tunewise.estimate.work import rehearse
from tunewise.memory import GIB, free_bytes, held_bytes
from tunewise.methods import METHODS
from tunewise.runs.memo import Shared
from tunewise.runs.prepare import Prepared, prepare
from tunewise.runs.result import Estimate
from tunewise.settings import validate

CONTEXT = GIB
"""Bytes of a GPU that CUDA, its kernels and the holes between tensors take."""

TOKENS = 4096
"""Of the smaller of two passes whose memory is compared; below, weights decide it."""


@dataclass(frozen=True)
class Row:
    """One method, or one machine."""

    name: str
    peak_bytes: int
    room_bytes: int
    """How much memory there is for it."""
    epoch_seconds: float
    evaluation_seconds: float
    """Of all evaluations."""
    frozen_seconds: float
    seconds: float
    """Of the whole run, if it does not stop early."""
    pass_tokens: int | None = None
    """About how many tokens a pass may have; 0 if not even one sequence fits, None if not asked."""

    @property
    def fits(self) -> bool:
        """Whether there is memory for it."""
        return self.peak_bytes <= self.room_bytes


@dataclass(frozen=True)
class Survey:
    """What `tunewise estimate` finds."""

    asked: Row
    """The set-up that was asked for, on this machine."""
    methods: list[Row]
    """It with each method's own settings, on this machine."""
    machines: list[Row]
    """It on GPUs."""

    @property
    def advice(self) -> str:
        """What to do, in a sentence."""
        if self.asked.fits:
            return "it fits"
        if self.asked.pass_tokens:
            return f"it fits with train.tokens_per_pass={self.asked.pass_tokens}"
        lighter = [row for row in self.methods if row.fits]
        if lighter:
            names = ", ".join(row.name for row in lighter)
            return f"it does not fit; these methods do: {names}; or set train.checkpointing=true"
        fitting = [row.name for row in self.machines if row.fits]
        elsewhere = f"; {fitting[0]} has room" if fitting else ""
        return (
            "no method fits here: lower train.max_length, set train.checkpointing=true, or take a "
            f"smaller model{elsewhere}"
        )


def survey(config: RunConfig, data: Path | None) -> Survey:
    """Return what a set-up would take, without reading any weights.

    Args:
        data: the folder in which a named task's rows are searched.

    Raises:
        TunewiseError: if the configuration, the tokenizer or the rows cannot be used.
    """
    shared, device = Shared(), choose_device()

    def here(config: RunConfig) -> Row:
        prepared = prepare(config, data, device, shared, SPLITS)
        room = free_bytes(device) + held_bytes(device)
        return _row(config.method.kind, estimate_run(prepared, shared), room)

    prepared = prepare(config, data, device, shared, SPLITS)
    asked = here(config)
    return Survey(
        asked=replace(asked, pass_tokens=_pass_tokens(asked, prepared, shared)),
        methods=[here(other) for other in _by_method(config)],
        machines=[_on_gpu(machine, prepared, config.train.precision, shared) for machine in GPUS],
    )


def _by_method(config: RunConfig) -> Iterator[RunConfig]:
    """Yield a configuration with each method, as it is by default or as was asked for."""
    for kind in METHODS:
        if kind == config.method.kind:
            yield config
            continue
        train = config.train.model_dump(exclude={"learning_rate"})
        values = config.model_dump() | {"method": kind, "train": train}
        yield validate(RunConfig, values, f"with {kind}")


def _on_gpu(machine: Machine, prepared: Prepared, precision: Precision, shared: Shared) -> Row:
    """Return what a set-up takes on a GPU, which keeps the rows elsewhere."""
    if precision == "auto":
        precision = "bf16" if machine.bf16_flops else "fp32"
    train = prepared.config.train.model_copy(update={"precision": precision})
    prepared = replace(prepared, config=prepared.config.model_copy(update={"train": train}))
    work = work_of(prepared, shared)
    expected = on(machine, work, train, work.peak_bytes)
    row = _row(machine.name, expected, machine.memory_bytes - CONTEXT)
    return replace(row, pass_tokens=_pass_tokens(row, prepared, shared))


def _row(name: str, expected: Estimate, room: int) -> Row:
    return Row(name=name, room_bytes=room, **expected.model_dump())


def _pass_tokens(row: Row, prepared: Prepared, shared: Shared) -> int:
    more_tokens = (row.room_bytes - row.peak_bytes) / _bytes_of_a_token(prepared, shared)
    pass_tokens = int(work_of(prepared, shared).pass_tokens + more_tokens)
    longest = max(len(sequence.ids) for sequence in prepared.encoded["train"].sequences)
    return pass_tokens if pass_tokens >= longest else 0


def _bytes_of_a_token(prepared: Prepared, shared: Shared) -> float:
    """Return how much memory grows with each token of a pass."""
    sequences = prepared.encoded["train"].sequences
    longest = max(sequences, key=lambda sequence: len(sequence.ids))

    def peak(count: int) -> int:
        """Return that of an update that is one pass over some sequences like the longest."""
        num_tokens = count * len(longest.ids)
        changed = {"batch_size": count, "tokens_per_pass": num_tokens}
        train = prepared.config.train.model_copy(update=changed)
        config = prepared.config.model_copy(update={"train": train})
        alike = replace(prepared.encoded["train"], sequences=[longest] * count)
        encoded = prepared.encoded | {"train": alike}
        return rehearse(replace(prepared, config=config, encoded=encoded)).peak_bytes

    few, many = -(-TOKENS // len(longest.ids)), -(-2 * TOKENS // len(longest.ids))
    key = "slope", prepared.config.model_dump_json()
    return shared.get(key, lambda: (peak(many) - peak(few)) / ((many - few) * len(longest.ids)))
