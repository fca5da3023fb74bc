"""Frozen states: the output of frozen first blocks, computed once for all epochs and runs.

The output below the first trained block is the same in every epoch, and in every run that shares
the model, the tokens and the depth. It is kept in a file that is mapped into memory. A classifier
whose blocks are all frozen needs one vector per example.
"""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tunewise import models
from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.data.rows import Split
from tunewise.files import cache_folder, writing_to_cache
from tunewise.memory import GIB, keep_freed_memory
from tunewise.models import LanguageModel

logger = logging.getLogger(__name__)

STATES_FOLDER = "prefix"
"""The folder in the cache, by its name in earlier versions, so that their files are used and
deleted."""


def with_frozen_states(
    model: LanguageModel,
    splits: Mapping[Split, Sequence[Encoded]],
    tokens_per_pass: int,
    limit: float,
) -> dict[Split, list[Encoded]]:
    """Return the sequences with the output of the model's frozen first blocks.

    They are returned as they are if no block is frozen, if dropout makes the output differ each
    time, or if it would take more than `limit`.

    Args:
        tokens_per_pass: most tokens of one forward pass.
        limit: GiB that the cache may take on the disk; 0 for no cache.
    """
    if limit == 0 or model.dropout > 0 or model.frozen_depth == 0:
        return {split: list(sequences) for split, sequences in splits.items()}
    key = _key(model)
    return {
        split: _with_states(model, sequences, key, tokens_per_pass, limit)
        for split, sequences in splits.items()
    }


def _with_states(
    model: LanguageModel,
    sequences: Sequence[Encoded],
    key: str,
    tokens_per_pass: int,
    limit: float,
) -> list[Encoded]:
    lengths = lengths_kept(model, sequences)
    shape = (sum(lengths), model.config.model_dim)
    size = shape[0] * shape[1] * model.compute_dtype.itemsize
    if size > limit * GIB:
        logger.info(
            "the output of the frozen blocks would take %.1f GiB, so it is computed each time; "
            "train.frozen_cache says how much it may take",
            size / GIB,
        )
        return list(sequences)
    path = cache_folder() / STATES_FOLDER / _key_of_split(key, sequences)
    try:
        if not path.is_file() or path.stat().st_size != size:
            logger.info("the output of the frozen blocks is computed once (%.2g GiB)", size / GIB)
            _make_room(path.parent, limit * GIB - size)
            _write(path, model, sequences, lengths, tokens_per_pass)
        path.touch()  # the last to be deleted
        states = _mapped(path, shape, model.compute_dtype)
    except OSError as error:
        logger.warning("the output of the frozen blocks is not kept: %s", error)
        return list(sequences)
    return [
        replace(sequence, states=part)
        for sequence, part in zip(sequences, torch.split(states, lengths), strict=True)
    ]


def lengths_kept(model: LanguageModel, sequences: Sequence[Encoded]) -> list[int]:
    """Return how many of each sequence's last tokens need their output kept."""
    last = keeps_last(model, sequences)
    return [1 if last else len(sequence.ids) for sequence in sequences]


def keeps_last(model: LanguageModel, sequences: Sequence[Encoded]) -> bool:
    """Return whether only each last token's output is read: by a label layer on frozen blocks."""
    all_frozen = model.frozen_depth > len(model.blocks)
    return all_frozen and all(sequence.label is not None for sequence in sequences)


def _key(model: LanguageModel) -> str:
    """Return a hash of the code, weights and precision, which decide the output with the tokens."""
    depth = model.frozen_depth
    device = next(model.parameters()).device.type
    key = hashlib.sha256(f"{torch.__version__} {device} {model.compute_dtype} {depth}".encode())
    for file in sorted(Path(models.__file__).parent.rglob("*.py")):
        key.update(file.read_bytes())  # other code may round differently
    key.update(model.config.model_dump_json().encode())
    parts = [model.token_embedding, model.position_embedding, *model.blocks[:depth]]
    for part in [*parts, model.final_norm if depth > len(model.blocks) else None]:
        for parameter in part.parameters() if part is not None else ():
            key.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return key.hexdigest()


def _key_of_split(key: str, sequences: Sequence[Encoded]) -> str:
    tokens = hashlib.sha256(key.encode())
    for sequence in sequences:
        tokens.update(f"{len(sequence.ids)} {sequence.label is not None} ".encode())
        tokens.update(sequence.ids.data)
    return tokens.hexdigest()


@torch.inference_mode()
def _write(
    path: Path,
    model: LanguageModel,
    sequences: Sequence[Encoded],
    lengths: list[int],
    tokens_per_pass: int,
) -> None:
    """Write the outputs, in the order of the sequences; the file is there whole or not at all."""
    shape = (sum(lengths), model.config.model_dim)
    with writing_to_cache(path) as temporary:
        os.truncate(temporary, shape[0] * shape[1] * model.compute_dtype.itemsize)
        written = _mapped(temporary, shape, model.compute_dtype, shared=True)
        places = torch.split(written, lengths)
        device = next(model.parameters()).device
        keep_freed_memory(device)
        only_last = keeps_last(model, sequences)
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index].ids))
        done = 0
        for batch in pack([sequences[index] for index in order], tokens_per_pass):
            batch = batch.to(device)
            states = model.frozen_states(batch, scored_only=only_last)  # (M, D)
            owners = batch.segments[batch.scored] if only_last else batch.segments
            segments, counts = torch.unique_consecutive(owners, return_counts=True)
            parts = torch.split(states.cpu(), counts.tolist())
            for segment, part in zip(segments.tolist(), parts, strict=True):
                places[order[done + segment]].copy_(part)
            done += len(parts)


def _mapped(path: Path, shape: tuple[int, int], dtype: torch.dtype, shared: bool = False) -> Tensor:
    """Return a file as a tensor, which is read from the disk page by page when it is used."""
    size = shape[0] * shape[1]
    return torch.from_file(str(path), shared=shared, size=size, dtype=dtype).view(shape)


def _make_room(folder: Path, room: float) -> None:
    """Delete the least recently used files, until no more than `room` bytes are left."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > room:
            file.unlink(missing_ok=True)
