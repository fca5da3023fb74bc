"""Texts that are written together, one token of each in a pass; others join between two passes.

Shapes: B texts, V vocabulary.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tunewise.data.encode import IGNORE, Encoded, join_ids
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import NotFiniteError
from tunewise.generation.config import DecodingConfig
from tunewise.generation.continuation import Continuation
from tunewise.generation.sample import NO_TOKEN, choose_tokens, seen_tokens
from tunewise.generation.stop import EndReason, StopRule, TextStream
from tunewise.models.cache import Cache, compact_rows
from tunewise.serving.mixing import Mix

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextPiece:
    """A piece of a text that is being written."""

    text: str
    num_tokens: int
    """Number of tokens written so far."""
    finish: EndReason | Literal["error"] | None = None
    """Why the text has ended with this piece; None if it continues."""


@dataclass(eq=False)
class TextJob:
    """A text that a request asks for."""

    text: Continuation
    owner: int
    """Number of its model in the mix."""
    decoding: DecodingConfig
    tokenizer: Tokenizer
    send: Callable[[TextPiece], None]
    """Takes the pieces; it is called in the engine's thread."""
    cancelled: bool = False
    """Whether the client has left, so that the text is not needed."""
    generator: torch.Generator = field(init=False)
    sampling: DecodingConfig = field(init=False)
    """The fields of `decoding` that affect the next token: equal ones are computed together."""

    def __post_init__(self) -> None:
        self.generator = self.text.draw.generator()
        self.sampling = self.decoding.model_copy(update={"stop": (), "max_new_tokens": 1})
        self._stop_rule = StopRule(self.tokenizer, self.decoding)
        self._stream = TextStream(self.tokenizer, self.decoding)

    @property
    def num_left(self) -> int:
        """Maximum number of tokens that may still follow."""
        return self.text.max_new_tokens - len(self.text.output)

    def add(self, token: int) -> bool:
        """Add a token to the output, send the new text, and return whether the text has ended.

        Without a token, since its model's outputs are not finite, the text ends in an error.
        """
        if token == NO_TOKEN:
            logger.error("%s", NotFiniteError.of())
            self.send(TextPiece("", len(self.text.output), "error"))
            return True
        output = self.text.output
        output.append(token)
        num_tokens = len(output)
        end_reason = self._stop_rule.end_reason(output, self.text.max_new_tokens)
        if end_reason is None:
            if piece := self._stream.next_piece(output):
                self.send(TextPiece(piece, num_tokens))
            return False
        self.text.output = self._stop_rule.trim(output)
        rest = self._stream.last_piece(self.text.output)
        self.send(TextPiece(rest, num_tokens, end_reason))
        return True


class TextBatch:
    """The texts that the models of a mix are writing."""

    def __init__(self, mix: Mix) -> None:
        self.jobs: list[TextJob] = []
        self._mix = mix
        self._device = mix.device
        self._cache: Cache

    @torch.inference_mode()
    def join(self, jobs: Sequence[TextJob]) -> None:
        """Read prompts in one pass; texts that do not end with their first token stay."""
        ordered = sorted(jobs, key=lambda job: len(job.text.prompt))
        room = max(job.num_left for job in [*self.jobs, *ordered])
        lengths = [len(job.text.prompt) for job in ordered]
        cache = Cache(
            self._mix.config.num_layers,
            lengths,
            room=room,
            max_rows=len(lengths),
            device=self._device,
            num_before=self._mix.first_position,
        )
        prompts = [Encoded.prompt(job.text.prompt) for job in ordered]
        (batch,) = (batch.to(self._device) for batch in pack(prompts, sum(lengths)))
        owners = self._owners(ordered)  # (B,)
        hidden = self._mix.hidden(batch, cache, owners[batch.segments])  # (N, D)
        logits = self._mix.logits(hidden[batch.targets != IGNORE], owners)  # (B, V)
        rows = _add_tokens(ordered, logits)
        if not rows:
            return
        cache.keep(rows)
        self._cache = self._cache.join(cache, room) if self.jobs else cache
        self.jobs += [ordered[row] for row in rows]

    @torch.inference_mode()
    def step(self) -> None:
        """Write one more token of every text."""
        tokens = torch.tensor([job.text.output[-1] for job in self.jobs], device=self._device)
        owners = self._owners(self.jobs)  # (B,)
        hidden = self._mix.next_hidden(tokens, self._cache, owners)  # (B, D)
        self._keep(_add_tokens(self.jobs, self._mix.logits(hidden, owners)))

    @torch.inference_mode()
    def drop_cancelled(self) -> None:
        """Remove the texts whose clients have left."""
        cancelled = [job.cancelled for job in self.jobs]
        if any(cancelled):
            self._keep(compact_rows(cancelled))

    def _keep(self, rows: list[int]) -> None:
        self.jobs = [self.jobs[row] for row in rows]
        if rows:
            self._cache.keep(rows)
        else:
            del self._cache  # free its memory

    def _owners(self, jobs: Sequence[TextJob]) -> Tensor:
        return torch.tensor([job.owner for job in jobs], device=self._device)


def _add_tokens(jobs: Sequence[TextJob], logits: Tensor) -> list[int]:
    """Add the next token to every text, and return the rows of those that continue, compacted.

    Args:
        logits: (B, V) of the next tokens.
    """
    groups: dict[DecodingConfig, list[int]] = {}
    for row, job in enumerate(jobs):
        groups.setdefault(job.sampling, []).append(row)
    tokens = [0] * len(jobs)
    for sampling, rows in groups.items():
        of_group = logits[rows]
        texts = [] if sampling.repetition_penalty == 1 else [jobs[row].text for row in rows]
        seen = seen_tokens([join_ids(text.prompt, text.output) for text in texts], of_group)
        generators = [jobs[row].generator for row in rows]
        chosen = choose_tokens(of_group, seen, sampling, generators)
        for row, token in zip(rows, chosen, strict=True):
            tokens[row] = token
    return compact_rows([job.add(token) for job, token in zip(jobs, tokens, strict=True)])
