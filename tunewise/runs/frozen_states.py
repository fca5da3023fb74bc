"""The output of a run's frozen first blocks, computed or read before training."""

from dataclasses import replace

from tunewise.data.rows import Split
from tunewise.models import LanguageModel
from tunewise.runs.prepare import Prepared
from tunewise.training.frozen_blocks import with_frozen_states


def add_frozen_states(prepared: Prepared, model: LanguageModel) -> Prepared:
    """Return `prepared` with the output of frozen first blocks added to its sequences.

    Nothing is added if no block is frozen, or the states are larger than `train.frozen_cache`.
    """
    config, encoded = prepared.config, prepared.encoded
    # Choices are evaluated behind each prompt again: only training uses these sequences.
    splits: tuple[Split, ...] = (
        tuple(encoded) if config.task.answer_kind.reads_sequences else ("train",)
    )
    sequences = {split: encoded[split].sequences for split in splits}
    tokens_per_pass, limit = config.train.tokens_per_pass, config.train.frozen_cache
    known = with_frozen_states(model, sequences, tokens_per_pass, limit)
    added = {split: replace(encoded[split], sequences=known[split]) for split in known}
    return replace(prepared, encoded=encoded | added)
