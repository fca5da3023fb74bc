"""Encoding: examples become token ids, with the place where scoring starts."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from tunewise.data.cache import Ids, tokenize_cached
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import Tokenizer

LossOn = Literal["answer", "everything"]
"""The scored tokens of an example: those of the target, or those of the prompt too."""

IGNORE = -100
"""The target of a position that is not scored (the `ignore_index` of PyTorch's losses)."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """The tokens of one sequence."""

    example_id: str
    ids: Ids
    prompt_length: int
    """Number of ids of the prompt: scoring starts with the id after them."""
    label: int | None = None
    """For a classifier: the label to predict from the last token, in place of the next tokens."""
    states: Tensor | None = None
    """Frozen states: the output of frozen first blocks, (T, D), or (1, D) of the last token."""

    @classmethod
    def prompt(cls, ids: Ids, example_id: str = "") -> "Encoded":
        """Return a sequence of which only the last token is scored, to predict what follows it.

        The target is not used: it is label 0, which every output layer has.
        """
        return cls(example_id, ids, len(ids), label=0)

    @property
    def num_scored(self) -> int:
        """Number of scored positions of this sequence."""
        return 1 if self.label is not None else len(self.ids) - max(self.prompt_length, 1)


@dataclass(frozen=True)
class EncodedPrompts:
    """The prompts of examples, and how much was cut to make them fit."""

    ids: list[Ids]
    cut: list[int]
    """Number of tokens that each lost."""
    num_shortened: int = 0
    """Number of conversations that were left without their oldest exchanges."""

    @property
    def num_cut(self) -> int:
        """Number of prompts that lost tokens."""
        return sum(count > 0 for count in self.cut)


@dataclass(frozen=True)
class EncodedSplit:
    """The sequences of a split, and how much was cut to make them fit."""

    sequences: list[Encoded]
    num_truncated: int
    """Number of examples that lost tokens."""
    num_tokens_cut: int
    """Number of tokens that they lost in all."""
    num_shortened: int = 0
    """Number of conversations among them that were left without their oldest exchanges."""


def encode_labelled(
    examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout
) -> EncodedSplit:
    """Return one sequence per example, prompt and cue, with a label to predict.

    The prompt of a sequence that is too long is cut.
    """
    prompts = encode_prompts(examples, tokenizer, layout)
    sequences = [
        Encoded(example.id, ids, len(ids), example.choices.index(example.target))
        for example, ids in zip(examples, prompts.ids, strict=True)
    ]
    return EncodedSplit(sequences, prompts.num_cut, sum(prompts.cut), prompts.num_shortened)


def encode_answered(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    layout: Layout,
    loss_on: LossOn = "answer",
    end: bool = True,
) -> EncodedSplit:
    """Return one sequence per example: prompt, cue, target and, if asked, end of text.

    Prompt, cue and target are tokenized separately, so the place where scoring starts does not move
    with the byte pairs that happen to meet there. Where both are too long, the prompt is cut first,
    down to half of the text's length; then the target loses its end.

    Args:
        loss_on: whether only the target's tokens are scored, or the prompt's too.
        end: whether the text ends after the target, which is then scored too.
    """
    closing = [tokenizer.end_of_text] if end else []
    targets = [
        join_ids(ids, closing)
        for ids in tokenize_cached(tokenizer, [example.marked_target for example in examples])
    ]
    prompts = encode_prompts(examples, tokenizer, layout, list(map(len, targets)))
    sequences, cut = [], list(prompts.cut)
    for index, (example, prompt, target) in enumerate(
        zip(examples, prompts.ids, targets, strict=True)
    ):
        kept = target[: layout.max_length - len(prompt)]
        cut[index] += len(target) - len(kept)
        start = len(prompt) if loss_on == "answer" else len(layout.virtual_ids) + 1
        sequences.append(Encoded(example.id, join_ids(prompt, kept), start))
    num_truncated = sum(count > 0 for count in cut)
    return EncodedSplit(sequences, num_truncated, sum(cut), prompts.num_shortened)


def encode_prompts(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    layout: Layout,
    reserved: Sequence[int] | int = 0,
) -> EncodedPrompts:
    """Return the ids of each example's prompt and cue.

    Of a conversation that is too long the oldest exchanges are left out, as few as needed. Any
    other prompt, and a question that is too long by itself, is cut inside: see `Example.cut_from`.

    Args:
        reserved: number of ids to keep free after them, for each example or for all; at least half
            of the text's length is left for the prompt.
    """
    longest = layout.text_length
    wanted = [reserved] * len(examples) if isinstance(reserved, int) else reserved
    texts = tokenize_cached(tokenizer, [example.marked_prompt for example in examples])
    cues = list({example.marked_cue for example in examples})
    cue_ids = dict(zip(cues, tokenizer.tokenize(cues), strict=True))
    prompts, cut, num_shortened = [], [], 0
    for example, text, num_reserved in zip(examples, texts, wanted, strict=True):
        text, cue = begin_text(tokenizer, text), cue_ids[example.marked_cue]
        longest_prompt = max(longest - num_reserved, (longest + 1) // 2)
        room = max(0, longest_prompt - len(cue))
        kept = text if len(text) <= room else _shortened(example, room, tokenizer)
        num_shortened += len(text) > room and len(example.exchanges) > 1
        prompt = join_ids(kept, cue[-longest_prompt:])
        cut.append(len(text) + len(cue) - len(prompt))
        # An empty prompt still needs a token to predict from.
        prompts.append(join_ids(layout.virtual_ids, prompt if len(prompt) else tokenizer.opening))
    return EncodedPrompts(prompts, cut, num_shortened)


def _shortened(example: Example, room: int, tokenizer: Tokenizer) -> Ids:
    """Return the ids of a prompt that is too long, as many as there is room for."""

    def fits(count: int) -> bool:
        return len(_prompt_ids(example.without_oldest(count), tokenizer)) <= room

    # The more exchanges are left out, the shorter is the prompt: halving finds the fewest.
    most = max(0, len(example.exchanges) - 1)
    example = example.without_oldest(bisect_left(range(most), True, key=fits))
    ids = _prompt_ids(example, tokenizer)
    if len(ids) <= room:
        return ids
    if example.cut_from is None:
        return ids[:room]
    before, text = example.marked_prompt.part(0, example.cut_from), example.marked_prompt
    before_ids, rest = map(join_ids, tokenizer.tokenize([before, text.part(example.cut_from)]))
    before_ids = begin_text(tokenizer, before_ids)
    # The text before keeps half of the room, or what the rest leaves of it.
    before_ids = before_ids[: max(room // 2, room - len(rest))]
    return join_ids(before_ids, rest[len(rest) - (room - len(before_ids)) :])


def _prompt_ids(example: Example, tokenizer: Tokenizer) -> Ids:
    (ids,) = tokenizer.tokenize([example.marked_prompt])
    return begin_text(tokenizer, join_ids(ids))


def encode_texts_whole(
    examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout
) -> EncodedSplit:
    """Return the consecutive pieces of each example's text, every token of which is scored once.

    A text is opened as the tokenizer says, and closed by the end of text. A piece begins with the
    last token of the piece before it, so that the first new token is predicted from something.
    """
    opening, virtual_ids = tokenizer.opening, layout.virtual_ids
    texts = tokenize_cached(tokenizer, [example.marked_target for example in examples])
    sequences = []
    for example, text in zip(examples, texts, strict=True):
        ids = join_ids(opening, text, [tokenizer.end_of_text])
        start, num_unscored = 0, len(opening)
        while start + num_unscored < len(ids):
            piece = ids[start : start + layout.text_length]
            prompt_length = len(virtual_ids) + num_unscored
            sequences.append(Encoded(example.id, join_ids(virtual_ids, piece), prompt_length))
            start, num_unscored = start + len(piece) - 1, 1
    return EncodedSplit(sequences, 0, 0)


def begin_text(tokenizer: Tokenizer, ids: Ids) -> Ids:
    """Return the ids with those that begin a text in front, unless they are there already."""
    begin = tokenizer.begin
    return ids if tuple(ids[: len(begin)]) == begin else join_ids(begin, ids)


def join_ids(*parts: Sequence[int] | Ids) -> Ids:
    """Return the ids of all parts, in one array."""
    return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])
