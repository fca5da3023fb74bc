"""Preparation of a run: its configuration is resolved and its rows become token ids."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from tunewise.config import RunConfig
from tunewise.data.encode import EncodedSplit
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.rows import Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_dtype
from tunewise.errors import ConfigError
from tunewise.models import FAMILIES, ModelConfig
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import find_folder, read_shape
from tunewise.runs.memo import Key, Shared
from tunewise.tasks import Task
from tunewise.tasks.notices import warn_of_examples

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Everything that a run needs but its model."""

    name: str
    config: RunConfig
    """The resolved configuration; see `resolve`."""
    source: Path
    """The folder of the base model."""
    shape: ModelConfig
    tokenizer: Tokenizer
    layout: Layout
    examples: dict[Split, list[Example]]
    encoded: dict[Split, EncodedSplit]
    device: torch.device


@dataclass(frozen=True)
class SourceKey(Key[Path]):
    """A model, by its name, hub id or folder: the runs of a process read one commit of it."""

    model: str


@dataclass(frozen=True)
class TokenizerKey(Key[Tokenizer]):
    """The folder of a model."""

    folder: Path


@dataclass(frozen=True)
class ExamplesKey(Key[list[Example]]):
    """A split of a task's rows."""

    task: str
    """The task's settings, as JSON."""
    data: Path | None
    split: Split


@dataclass(frozen=True)
class NoticesKey(Key[None]):
    """A split of a task's rows, of which is said what deserves a word."""

    examples: ExamplesKey


@dataclass(frozen=True)
class EncodedKey(Key[EncodedSplit]):
    """Examples, encoded with the tokenizer of a model in a layout."""

    examples: ExamplesKey
    model: Path
    layout: Layout


def prepare(
    config: RunConfig,
    data: Path | None,
    device: torch.device,
    shared: Shared,
    splits: Sequence[Split],
    stand_in: Path | None = None,
) -> Prepared:
    """Read the rows of some splits, turn them into token ids, and return all that a run needs.

    Args:
        data: the folder in which a named task's rows are searched.
        shared: keeps rows, token ids and tokenizers for other runs.
        stand_in: for an estimate of a known model whose files cannot be had, the folder of another
            tokenizer.

    Raises:
        TunewiseError: if the configuration, the tokenizer or the rows cannot be used.
    """
    if stand_in is None:
        source = shared.get(SourceKey(config.model), partial(find_folder, config.model))
        shape = read_shape(source)
    else:
        source, shape = stand_in, KNOWN_MODELS[config.model].config
    tokenizer = shared.get(TokenizerKey(source), partial(Tokenizer.load, source))
    keys = {split: _examples_key(config.task, split, data) for split in splits}
    examples = {split: read_examples(config.task, split, data, shared) for split in splits}
    for split in splits:
        notices = partial(warn_of_examples, split, examples)
        shared.get(NoticesKey(keys[split]), notices)
    config = resolve(config, shape, examples["train"], device)
    layout = layout_of(config, shape)
    encoded = {
        split: shared.get(
            EncodedKey(keys[split], source, layout),
            partial(encode_split, config.task, split, examples[split], tokenizer, layout),
        )
        for split in splits
    }
    name = run_name(config)
    return Prepared(name, config, source, shape, tokenizer, layout, examples, encoded, device)


def run_name(config: RunConfig) -> str:
    """Return the name of a run, which its folder has unless another is given."""
    return f"{Path(config.model).name}-{config.task.name}-{config.method.kind}"


def read_examples(task: Task, split: Split, data: Path | None, shared: Shared) -> list[Example]:
    """Return the examples of a split, from the memory that runs share if they are there.

    Raises:
        DataError: if the rows cannot be used.
    """
    key = _examples_key(task, split, data)
    return shared.get(key, partial(task.examples, split, data))


def _examples_key(task: Task, split: Split, data: Path | None) -> ExamplesKey:
    return ExamplesKey(task.model_dump_json(), data, split)


def resolve(
    config: RunConfig, shape: ModelConfig, training: Sequence[Example], device: torch.device
) -> RunConfig:
    """Return the resolved configuration: nothing in it depends on the rows or the machine.

    It names the labels, the precision, the layers that a method changes and the full path of the
    model. A run keeps it, so that it can be repeated, or loaded from any folder, with the same
    result.
    """
    dtype = choose_dtype(config.train.precision, device)
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    is_folder = config.model not in KNOWN_MODELS and Path(config.model).is_dir()
    return config.model_copy(
        update={
            "model": str(Path(config.model).absolute()) if is_folder else config.model,
            "task": config.task.resolve(training),
            "method": config.method.resolve(FAMILIES[shape.family]),
            "train": config.train.model_copy(update={"precision": precision}),
        }
    )


def layout_of(config: RunConfig, shape: ModelConfig) -> Layout:
    """Return the layout of a run's sequences, with the ids of its method's soft prompt.

    Raises:
        ConfigError: if the model has too few positions, or there is no room for any text.
    """
    first = shape.vocabulary_size
    virtual_ids = tuple(range(first, first + config.method.num_virtual_ids))
    return Layout(max_sequence_length(config, shape), virtual_ids)


def max_sequence_length(config: RunConfig, shape: ModelConfig) -> int:
    """Return the most ids of a sequence: `train.max_length`, else the task's, else the context.

    The positions that the keys and values of prefix tuning take are subtracted: they have no ids.

    Raises:
        ConfigError: if the model has too few positions, or there is no room for any text.
    """
    context, num_prefix = shape.context_length, config.method.num_prefix_positions
    num_virtual = config.method.num_virtual_ids + num_prefix
    max_length = config.train.max_length or min(config.task.max_length or context, context)
    if max_length > context:
        raise ConfigError(f"train.max_length: {max_length}; the model has {context} positions")
    if max_length < num_virtual + 2:
        raise ConfigError(
            f"train.max_length: {max_length} leaves no room for text behind "
            f"{num_virtual} virtual tokens"
        )
    return max_length - num_prefix


def encode_split(
    task: Task, split: Split, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout
) -> EncodedSplit:
    """Return the examples of a split as sequences, and warn if some had to be cut."""
    encoded = task.encode(examples, tokenizer, layout)
    if encoded.num_truncated:
        oldest = f", with the oldest exchanges of {encoded.num_shortened} conversations"
        logger.warning(
            "%s: %d of %d examples are longer than %d tokens; %d tokens in all are cut%s",
            split,
            encoded.num_truncated,
            len(examples),
            layout.max_length,
            encoded.num_tokens_cut,
            oldest if encoded.num_shortened else "",
        )
    return encoded
