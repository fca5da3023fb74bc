"""The survey of `tunewise estimate`: a run on this machine, with each method, and on some GPUs."""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tunewise.config import RunConfig
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import Precision, choose_device
from tunewise.errors import ConfigError, ModelError
from tunewise.estimate.expected import estimate_on, estimate_run, find_work
from tunewise.estimate.machines import GPUS, Machine
from tunewise.estimate.work import rehearse
from tunewise.memory import GIB, free_bytes, held_bytes
from tunewise.methods import METHODS
from tunewise.models.catalog import KNOWN_MODELS, POCKET
from tunewise.models.folder import POCKET_FOLDER, find_folder
from tunewise.runs.memo import Key, Shared
from tunewise.runs.prepare import Prepared, SourceKey, prepare
from tunewise.runs.result import Estimate
from tunewise.settings import validate

CUDA_BYTES = GIB
"""Memory of a GPU that CUDA, its kernels and the holes between tensors take."""

MIN_COMPARED_TOKENS = 4096
"""Tokens of the smaller of two passes whose memory is compared; with fewer, weights decide it."""


@dataclass(frozen=True)
class SlopeKey(Key[float]):
    """A set-up whose memory grows with the tokens of a pass."""

    config: str
    """The configuration as JSON."""


@dataclass(frozen=True)
class Requirement:
    """The memory and time of a run with one method, or on one machine."""

    name: str
    """Name of the method or of the machine."""
    peak_bytes: int
    room_bytes: int
    """Memory that the machine has for the run."""
    epoch_seconds: float
    """Time of an epoch's updates."""
    evaluation_seconds: float
    """Time of all evaluations."""
    frozen_seconds: float
    """Time to compute the output of frozen first blocks."""
    seconds: float
    """Time of the whole run, if it does not stop early."""
    pass_tokens: int | None = None
    """About how many tokens a pass may have; 0 if not even one sequence fits, None if not asked."""

    @property
    def fits(self) -> bool:
        """Whether there is enough memory for it."""
        return self.peak_bytes <= self.room_bytes


@dataclass(frozen=True)
class Survey:
    """The memory and time of a run as configured, with other methods, and on other machines."""

    asked: Requirement
    """The run as configured, on this machine."""
    methods: list[Requirement]
    """The run with the default settings of each method that the model can have, on this machine."""
    machines: list[Requirement]
    """The run as configured, on each GPU."""
    note: str = ""
    """Says so if lengths were counted with the tokenizer of another model, and why."""

    @property
    def advice(self) -> str:
        """Whether the run fits, and if not, what to do, in a sentence."""
        if self.asked.fits:
            return "it fits"
        if self.asked.pass_tokens:
            return f"it fits with train.tokens_per_pass={self.asked.pass_tokens}"
        lighter = [method.name for method in self.methods if method.fits]
        if lighter:
            names = ", ".join(lighter)
            return f"it does not fit; these methods do: {names}; or set train.checkpointing=true"
        fitting = [machine.name for machine in self.machines if machine.fits]
        elsewhere = f"; {fitting[0]} has room" if fitting else ""
        return (
            "no method fits here: lower train.max_length, set train.checkpointing=true, or take a "
            f"smaller model{elsewhere}"
        )


def survey(config: RunConfig, data: Path | None) -> Survey:
    """Return the memory and time of a run here, with each method and on GPUs; reads no weights.

    The shape of a known model is known. If its files cannot be had, lengths are counted with the
    tokenizer of the embedded model.

    Args:
        data: the folder in which a named task's rows are searched.

    Raises:
        TunewiseError: if the configuration, the tokenizer or the rows cannot be used.
    """
    shared, device = Shared(), choose_device()
    stand_in, note = _stand_in(config.model, shared)

    def require_here(config: RunConfig) -> Requirement:
        prepared = prepare(config, data, device, shared, SPLITS, stand_in)
        room_bytes = free_bytes(device) + held_bytes(device)
        return _requirement(config.method.kind, estimate_run(prepared, shared), room_bytes)

    prepared = prepare(config, data, device, shared, SPLITS, stand_in)
    asked, methods = require_here(config), []
    for other in _with_each_method(config):
        with suppress(ConfigError):  # it asks for what this model does not have, such as biases
            methods.append(require_here(other))
    return Survey(
        asked=replace(asked, pass_tokens=_pass_tokens(asked, prepared, shared)),
        methods=methods,
        machines=[
            _require_on_gpu(machine, prepared, config.train.precision, shared) for machine in GPUS
        ],
        note=note,
    )


def _stand_in(model: str, shared: Shared) -> tuple[Path | None, str]:
    """Return the folder of a tokenizer in place of a known model's that cannot be had, and why.

    Without need, and for other models, there is neither.
    """
    if model not in KNOWN_MODELS:
        return None, ""
    try:
        Tokenizer.load(shared.get(SourceKey(model), partial(find_folder, model)))
    except ModelError as error:
        return POCKET_FOLDER, (
            f"lengths are counted with the tokenizer of {POCKET}, whose tokens are not those of "
            f"{model}: {error}"
        )
    return None, ""


def _with_each_method(config: RunConfig) -> Iterator[RunConfig]:
    """Yield the configuration with each method: its own as configured, others by default."""
    for kind in METHODS:
        if kind == config.method.kind:
            yield config
            continue
        train = config.train.model_dump(exclude={"learning_rate"})
        values = config.model_dump() | {"method": kind, "train": train}
        yield validate(RunConfig, values, f"with {kind}")


def _require_on_gpu(
    machine: Machine, prepared: Prepared, precision: Precision, shared: Shared
) -> Requirement:
    """Return the memory and time of a run on a GPU, whose memory does not hold the rows."""
    if precision == "auto":
        precision = "bf16" if machine.bf16_flops else "fp32"
    train = prepared.config.train.model_copy(update={"precision": precision})
    prepared = replace(prepared, config=prepared.config.model_copy(update={"train": train}))
    work = find_work(prepared, shared)
    expected = estimate_on(machine, work, train, work.peak_bytes)
    required = _requirement(machine.name, expected, machine.memory_bytes - CUDA_BYTES)
    return replace(required, pass_tokens=_pass_tokens(required, prepared, shared))


def _requirement(name: str, expected: Estimate, room_bytes: int) -> Requirement:
    return Requirement(name=name, room_bytes=room_bytes, **expected.model_dump())


def _pass_tokens(required: Requirement, prepared: Prepared, shared: Shared) -> int:
    """Return how many tokens a pass may have; 0 if not even the longest sequence fits."""
    spare_bytes = required.room_bytes - required.peak_bytes
    more_tokens = spare_bytes / _bytes_per_token(prepared, shared)
    pass_tokens = int(find_work(prepared, shared).pass_tokens + more_tokens)
    longest = max(len(sequence.ids) for sequence in prepared.encoded["train"].sequences)
    return pass_tokens if pass_tokens >= longest else 0


def _bytes_per_token(prepared: Prepared, shared: Shared) -> float:
    """Return how much memory grows with each token of a pass."""
    sequences = prepared.encoded["train"].sequences
    longest = max(sequences, key=lambda sequence: len(sequence.ids))

    def peak_bytes(count: int) -> int:
        """Return the peak of an update that is one pass over copies of the longest sequence."""
        num_tokens = count * len(longest.ids)
        changed = {"batch_size": count, "tokens_per_pass": num_tokens}
        train = prepared.config.train.model_copy(update=changed)
        config = prepared.config.model_copy(update={"train": train})
        alike = replace(prepared.encoded["train"], sequences=[longest] * count)
        encoded = prepared.encoded | {"train": alike}
        return rehearse(replace(prepared, config=config, encoded=encoded)).peak_bytes

    def slope() -> float:
        few = math.ceil(MIN_COMPARED_TOKENS / len(longest.ids))
        many = math.ceil(2 * MIN_COMPARED_TOKENS / len(longest.ids))
        return (peak_bytes(many) - peak_bytes(few)) / ((many - few) * len(longest.ids))

    return shared.get(SlopeKey(prepared.config.model_dump_json()), slope)
