"""Examples to token ids, and where scoring starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from tunewise.data.cache import Ids, encode_texts
from tunewise.data.example import Example
from tunewise.data.tokenizer import Tokenizer

LossOn = Literal["answer", "everything"]
"""Which tokens of an answered example are scored."""

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
    states: Tensor | None = None
    """What frozen first blocks make of the tokens, (T, D), or of the last one alone, (1, D)."""

    @property
    def num_scored(self) -> int:
        """How many predictions of this sequence count."""
        return 1 if self.label is not None else len(self.ids) - max(self.prompt_length, 1)


@dataclass(frozen=True)
class EncodedPrompts:
    """What is given of each example, and what had to be cut to make it fit."""

    ids: list[Ids]
    cut: list[int]
    """How many tokens each lost."""


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
    """Return one sequence per example: prefix, prompt and cue, with a label to predict.

    Args:
        max_length: the most tokens of a sequence, prefix included; the prompt of a longer one loses
            its end.
        prefix: ids to put in front, such as a soft prompt's, which lie past the vocabulary.
    """
    prompts = encode_prompts(examples, tokenizer, max_length, prefix)
    sequences = [
        Encoded(example.id, ids, len(ids), example.choices.index(example.target))
        for example, ids in zip(examples, prompts.ids, strict=True)
    ]
    return EncodedSplit(sequences, sum(n > 0 for n in prompts.cut), sum(prompts.cut))


def encode_answered(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_length: int,
    prefix: Sequence[int] = (),
    loss_on: LossOn = "answer",
    end: bool = True,
) -> EncodedSplit:
    """Return one sequence per example: prefix, prompt, cue, target and, if asked, end of text.

    Prompt, cue and target are encoded apart, so the place where scoring starts does not move with
    the byte pairs that happen to meet there. Where both are longer than `max_length`, the prompt
    loses its end first, down to half of the room; then the target does.

    Args:
        max_length: the most tokens of a sequence, prefix included.
        prefix: ids to put in front, such as a soft prompt's, which lie past the vocabulary.
        loss_on: whether only the target's tokens are scored, or the prompt's too.
        end: whether the text ends after the target, which is then scored too.
    """
    closing = [tokenizer.end_of_text] if end else []
    targets = [
        joined(ids, closing) for ids in encode_texts(tokenizer, [e.target for e in examples])
    ]
    prompts = encode_prompts(examples, tokenizer, max_length, prefix, list(map(len, targets)))
    sequences, cut = [], list(prompts.cut)
    for index, (example, given, target) in enumerate(
        zip(examples, prompts.ids, targets, strict=True)
    ):
        kept = target[: max_length - len(given)]
        cut[index] += len(target) - len(kept)
        start = len(given) if loss_on == "answer" else len(prefix) + 1
        sequences.append(Encoded(example.id, joined(given, kept), start))
    return EncodedSplit(sequences, sum(n > 0 for n in cut), sum(cut))


def encode_prompts(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_length: int,
    prefix: Sequence[int] = (),
    reserved: Sequence[int] | int = 0,
) -> EncodedPrompts:
    """Return what is given of each example: prefix, prompt and cue.

    Args:
        max_length: the most tokens of a whole sequence.
        reserved: how many of them are wanted for what follows, for each example or for all; at
            least half of what the prefix leaves is the prompt's.
    """
    room = max_length - len(prefix)
    wanted = [reserved] * len(examples) if isinstance(reserved, int) else reserved
    texts = encode_texts(tokenizer, [example.prompt for example in examples])
    cues = {example.cue for example in examples}
    cue_ids = dict(zip(cues, tokenizer.encode(list(cues)), strict=True))
    prompts, cut = [], []
    for example, text, num_reserved in zip(examples, texts, wanted, strict=True):
        cue = cue_ids[example.cue]
        room_of_prompt = max(room - num_reserved, (room + 1) // 2)
        kept = text[: max(0, room_of_prompt - len(cue))]
        given = joined(kept, cue[-room_of_prompt:])
        cut.append(len(text) + len(cue) - len(given))
        # Nothing at all, as of an empty text, still needs a token to answer from.
        prompts.append(joined(prefix, given if len(given) else [tokenizer.end_of_text]))
    return EncodedPrompts(prompts, cut)


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
        ids = joined([tokenizer.end_of_text], text, [tokenizer.end_of_text])
        for start in range(0, len(ids) - 1, room - 1):
            piece = joined(prefix, ids[start : start + room])
            sequences.append(Encoded(example.id, piece, len(prefix) + 1))
    return EncodedSplit(sequences, 0, 0)


def joined(*parts: Sequence[int] | Ids) -> Ids:
    """Return the ids of all parts, in one array."""
    return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])
