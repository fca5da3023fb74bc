"""Texts that are written together, a token of each in a pass; others join between two passes.

Shapes: B texts, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tunewise.data.encode import IGNORE, Encoded, join_ids
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.generation.generate import (
    DecodingConfig,
    Ends,
    Pieces,
    Text,
    closed_up,
    generator_of,
    ids_in,
    next_tokens,
)
from tunewise.models.cache import Cache
from tunewise.serving.mixing import Mix

Finish = Literal["stop", "length", "error"]
"""Why a text has ended: it came to its end, or to the most tokens; or something broke."""


@dataclass(frozen=True)
class Piece:
    """A part of a text."""

    text: str
    num_tokens: int
    """How many tokens have been written so far."""
    finish: Finish | None = None
    """None if the text goes on."""


Tell = Callable[[Piece], None]


@dataclass(eq=False)
class Writing:
    """A text that is asked for, and whoever waits for its pieces."""

    text: Text
    owner: int
    """The number of its model in the mix."""
    decoding: DecodingConfig
    tokenizer: Tokenizer
    tell: Tell
    """Is called in the thread that computes."""
    cancelled: bool = False
    """Whether nobody waits any more."""
    generator: torch.Generator = field(init=False)
    choosing: DecodingConfig = field(init=False)
    """What of `decoding` decides the next token; texts that agree in it are treated as one."""

    def __post_init__(self) -> None:
        self.generator = generator_of(self.text.seed)
        self.choosing = self.decoding.model_copy(update={"stop": (), "max_new_tokens": 1})
        self._ends = Ends(self.tokenizer, self.decoding)
        self._pieces = Pieces(self.tokenizer, self.decoding)

    @property
    def num_left(self) -> int:
        """How many tokens may still follow."""
        return self.text.limit - len(self.text.output)

    def add(self, token: int) -> bool:
        """Write a token, and return whether the text has ended with it."""
        output = self.text.output
        output.append(token)
        count = len(output)
        if not self._ends.reached(output, self.text.limit):
            if piece := self._pieces.next(output):
                self.tell(Piece(piece, count))
            return False
        at_end = token in self.tokenizer.ends or self._ends.stops(output)
        self.text.output = self._ends.cut(output)
        rest = self._pieces.rest(self.text.output)
        self.tell(Piece(rest, count, "stop" if at_end else "length"))
        return True


class Batch:
    """The texts that the models of a mix are writing."""

    def __init__(self, mix: Mix) -> None:
        self.writings: list[Writing] = []
        self._mix = mix
        self._device = mix.device
        self._cache: Cache

    @torch.inference_mode()
    def join(self, writings: Sequence[Writing]) -> None:
        """Read prompts in one pass, and let those go on that do not end with their first token."""
        ordered = sorted(writings, key=lambda writing: len(writing.text.prompt))
        room = max(writing.num_left for writing in [*self.writings, *ordered])
        lengths = [len(writing.text.prompt) for writing in ordered]
        sizes = lengths, room, len(lengths), self._device, self._mix.first_position
        cache = Cache(self._mix.config.num_layers, *sizes)
        prompts = [Encoded.prompt(writing.text.prompt) for writing in ordered]
        (batch,) = (batch.to(self._device) for batch in pack(prompts, sum(lengths)))
        owners = self._owners(ordered)  # (B,)
        hidden = self._mix.hidden(
            batch.tokens, batch.positions, batch.segments, cache, owners[batch.segments]
        )  # (N, D)
        logits = self._mix.logits(hidden[batch.targets != IGNORE], owners)  # (B, V)
        rows = _chosen(ordered, logits)
        if not rows:
            return
        cache.keep(rows)
        self._cache = self._cache.joined(cache, room) if self.writings else cache
        self.writings += [ordered[row] for row in rows]

    @torch.inference_mode()
    def step(self) -> None:
        """Write one more token of every text."""
        tokens = torch.tensor([w.text.output[-1] for w in self.writings], device=self._device)
        places = torch.arange(len(tokens), device=self._device)  # (B,)
        owners = self._owners(self.writings)  # (B,)
        positions = self._cache.advance()
        hidden = self._mix.hidden(tokens, positions, places, self._cache, owners)  # (B, D)
        self._keep(_chosen(self.writings, self._mix.logits(hidden, owners)))

    @torch.inference_mode()
    def drop_cancelled(self) -> None:
        """Forget the texts that nobody waits for."""
        cancelled = [writing.cancelled for writing in self.writings]
        if any(cancelled):
            self._keep(closed_up(cancelled))

    def _keep(self, rows: list[int]) -> None:
        self.writings = [self.writings[row] for row in rows]
        if rows:
            self._cache.keep(rows)
        else:
            del self._cache  # its memory is of use to others

    def _owners(self, writings: Sequence[Writing]) -> Tensor:
        return torch.tensor([writing.owner for writing in writings], device=self._device)


def _chosen(writings: Sequence[Writing], logits: Tensor) -> list[int]:
    """Give every text its next token, and return the rows of those that go on; see `closed_up`.

    Args:
        logits: (B, V) of the next tokens.
    """
    alike: dict[DecodingConfig, list[int]] = {}
    for row, writing in enumerate(writings):
        alike.setdefault(writing.choosing, []).append(row)
    tokens = [0] * len(writings)
    for decoding, rows in alike.items():
        some = logits[rows]
        texts = [] if decoding.repetition_penalty == 1 else [writings[row].text for row in rows]
        seen = ids_in([join_ids(text.prompt, text.output) for text in texts], some)
        generators = [writings[row].generator for row in rows]
        chosen = next_tokens(some, seen, decoding, generators)
        for row, token in zip(rows, chosen, strict=True):
            tokens[row] = token
    added = zip(writings, tokens, strict=True)
    return closed_up([writing.add(token) for writing, token in added])
