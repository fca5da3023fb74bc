"""The output of a run's frozen first blocks, computed or read before training."""

from dataclasses import replace

from tunewise.data.rows import Split
from tunewise.models import LanguageModel
from tunewise.runs.prepare import Prepared
from tunewise.training.frozen_blocks import with_frozen_states


def add_frozen_states(prepared: Prepared, model: LanguageModel) -> Prepared:
    """Return a run whose sequences have the output of frozen first blocks, where that is kept."""
    config, encoded = prepared.config, prepared.encoded
    # Choices are read behind each prompt anew: only training sees the sequences themselves.
    splits: tuple[Split, ...] = tuple(encoded) if config.task.answer.reads_sequences else ("train",)
    sequences = {split: encoded[split].sequences for split in splits}
    tokens_per_pass, limit = config.train.tokens_per_pass, config.train.frozen_cache
    known = with_frozen_states(model, sequences, tokens_per_pass, limit)
    added = {split: replace(encoded[split], sequences=known[split]) for split in known}
    return replace(prepared, encoded=encoded | added)
