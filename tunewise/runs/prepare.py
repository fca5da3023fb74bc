"""What a run begins with: its configuration with nothing left open, and its rows as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from tunewise.config import RunConfig
from tunewise.data.encode import EncodedSplit
from tunewise.data.example import Example
from tunewise.data.rows import Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_dtype
from tunewise.models import ModelConfig
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import find_folder, read_config
from tunewise.runs.answer import encode, room, virtual_tokens
from tunewise.runs.memo import Shared


@dataclass(frozen=True)
class Prepared:
    """Everything about a run but its model."""

    name: str
    config: RunConfig
    """With nothing left open."""
    source: Path
    """The folder of the base model."""
    shape: ModelConfig
    tokenizer: Tokenizer
    examples: dict[Split, list[Example]]
    encoded: dict[Split, EncodedSplit]
    device: torch.device


def prepare(
    config: RunConfig,
    data: Path | None,
    device: torch.device,
    shared: Shared,
    splits: Sequence[Split],
) -> Prepared:
    """Read the rows of some splits, and turn them into token ids.

    Args:
        data: the folder in which a named task's rows are searched.
        shared: keeps rows, token ids and tokenizers for other runs.

    Raises:
        TunewiseError: if the configuration, the tokenizer or the rows cannot be used.
    """
    source = find_folder(config.model)
    shape = read_config(source)
    tokenizer = shared.get(source, lambda: Tokenizer.load(source))
    task, name = config.task, f"{Path(config.model).name}-{config.task.name}-{config.method.kind}"
    rows = task.model_dump_json(), data
    examples = {
        split: shared.get((*rows, split), partial(task.examples, split, data)) for split in splits
    }
    config = resolve(config, examples["train"], device)
    lengths = room(config, shape), virtual_tokens(config, shape)
    encoded = {
        split: shared.get(
            (*rows, source, *lengths, split),
            partial(encode, config, split, examples[split], shape, tokenizer),
        )
        for split in splits
    }
    return Prepared(name, config, source, shape, tokenizer, examples, encoded, device)


def resolve(config: RunConfig, training: Sequence[Example], device: torch.device) -> RunConfig:
    """Return the configuration with nothing left open: labels, precision, the model's whole path.

    This is what a run keeps, to be repeated or loaded from any folder with the same result.
    """
    dtype = choose_dtype(config.train.precision, device)
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    is_folder = config.model not in KNOWN_MODELS and Path(config.model).is_dir()
    return config.model_copy(
        update={
            "model": str(Path(config.model).absolute()) if is_folder else config.model,
            "task": config.task.resolve(training),
            "train": config.train.model_copy(update={"precision": precision}),
        }
    )
