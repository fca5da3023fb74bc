"""Examples to token ids, and where scoring starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewise.data.cache import Ids, encode_texts
from tunewise.data.example import Example
from tunewise.data.tokenizer import Tokenizer

IGNORE = -100
"""The target of a position that is not scored (the `ignore_index` of PyTorch's losses)."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """The tokens of one sequence."""

    example_id: str
    ids: Ids
    prompt_length: int
    """How many of the ids are given: scoring starts with the id after them."""
    label: int | None = None
    """For a classifier: the label to predict from the last token, in place of the next tokens."""

    @property
    def num_scored(self) -> int:
        """How many predictions of this sequence count."""
        return 1 if self.label is not None else len(self.ids) - max(self.prompt_length, 1)


@dataclass(frozen=True)
class EncodedSplit:
    """The sequences of a split, and what had to be cut to make them fit."""

    sequences: list[Encoded]
    num_truncated: int
    """How many examples lost tokens."""
    num_tokens_cut: int
    """How many tokens they lost in all."""


def encode_labelled(
    examples: Sequence[Example], tokenizer: Tokenizer, max_length: int, prefix: Sequence[int] = ()
) -> EncodedSplit:
    """Return one sequence per example: prefix and prompt, with the target as a label to predict.

    Args:
        max_length: the most tokens of a sequence, prefix included; the end of a longer one is cut.
        prefix: ids to put in front, such as a soft prompt's, which lie past the vocabulary.
    """
    room = max_length - len(prefix)
    sequences, cut = [], []
    for example, ids in zip(
        examples, encode_texts(tokenizer, [e.prompt for e in examples]), strict=True
    ):
        cut.append(max(0, len(ids) - room))
        # An empty text still needs a last token to answer from.
        kept = _joined(prefix, ids[:room] if len(ids) else [tokenizer.end_of_text])
        label = example.choices.index(example.target)
        sequences.append(Encoded(example.id, kept, len(kept), label))
    return EncodedSplit(sequences, sum(n > 0 for n in cut), sum(cut))


def encode_texts_whole(
    examples: Sequence[Example], tokenizer: Tokenizer, max_length: int, prefix: Sequence[int] = ()
) -> EncodedSplit:
    """Return the consecutive pieces of each example's text, every token of which is scored once.

    A text is opened and closed by the end-of-text token. A piece begins with the last token of the
    piece before it, so that the first new token is predicted from something.

    Args:
        max_length: the most tokens of a piece, prefix included.
        prefix: ids to put in front of every piece.
    """
    room = max_length - len(prefix)
    sequences = []
    for example, text in zip(
        examples, encode_texts(tokenizer, [e.target for e in examples]), strict=True
    ):
        ids = _joined([tokenizer.end_of_text], text, [tokenizer.end_of_text])
        for start in range(0, len(ids) - 1, room - 1):
            piece = _joined(prefix, ids[start : start + room])
            sequences.append(Encoded(example.id, piece, len(prefix) + 1))
    return EncodedSplit(sequences, 0, 0)


def _joined(*parts: Sequence[int] | Ids) -> Ids:
    return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])
