"""Beam search: several outputs for each text are continued side by side, and the likeliest is kept.

Shapes: B rows, V vocabulary.
"""

from dataclasses import dataclass, field
from math import inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from tunewise.errors import NotFiniteError
from tunewise.generation.config import DecodingConfig
from tunewise.generation.continuation import Continuation
from tunewise.generation.sample import NextTokens, penalise_seen
from tunewise.generation.stop import StopRule
from tunewise.models.cache import compact_rows


class _Beam(NamedTuple):
    """An output that continues."""

    score: float
    """log p of the output; -inf for a copy that only fills the batch."""
    row: int
    """The row that holds all tokens but the last."""
    output: list[int]


class _Ended(NamedTuple):
    """An output that has ended."""

    score: float
    """log p / length^penalty."""
    output: list[int]


@dataclass
class _Beams:
    """The beams of one text."""

    text: Continuation
    running: list[_Beam]
    ended: list[_Ended] = field(default_factory=list)
    """The best first."""


class BeamSearch:
    """Finds the likeliest of `num_beams` outputs for each text.

    Of the `num_beams` likeliest continuations, those that end are set aside; the likeliest of the
    others continue. The search is over when as many have been set aside and the best of those that
    continue is, at its present length, no better than the worst of them. This is what transformers
    does with `early_stopping=False`.
    """

    def __init__(
        self, texts: list[Continuation], stop_rule: StopRule, decoding: DecodingConfig
    ) -> None:
        self._stop_rule = stop_rule
        self._decoding = decoding
        self._live = [_Beams(text, [_Beam(0.0, row, [])]) for row, text in enumerate(texts)]

    def choose(self, logits: Tensor, seen: Tensor) -> NextTokens:
        """Continue the beams of every text, and return the tokens of those that have not ended.

        Args:
            logits: (B, V) of the next token of each row.
            seen: (B, V), true where a token is in a row's prompt or output.

        Raises:
            NotFiniteError: if the logits of a row are not finite.
        """
        scores = penalise_seen(logits.log_softmax(-1), seen, self._decoding.repetition_penalty)
        so_far = [beam.score for beams in self._live for beam in beams.running]
        scores = scores + torch.tensor(so_far, device=scores.device)[:, None]  # (B, V)
        # So few tokens end an output that at least `num_beams` of these do not.
        num_ends = len(self._stop_rule.tokenizer.ends)
        best = scores.view(len(self._live), -1).topk((1 + num_ends) * self._decoding.num_beams)
        first_row, over = 0, []
        for beams, values, places in zip(
            self._live, best.values.tolist(), best.indices.tolist(), strict=True
        ):
            if not isfinite(values[0]):
                raise NotFiniteError.of()
            candidates = []
            for score, place in zip(values, places, strict=True):
                number, token = divmod(place, logits.shape[1])
                if score > -inf:
                    output = [*beams.running[number].output, token]
                    candidates.append(_Beam(score, first_row + number, output))
            first_row += len(beams.running)
            over.append(self._advance(beams, candidates))
        self._live = [self._live[place] for place in compact_rows(over)]
        running = [beam for beams in self._live for beam in beams.running]
        return NextTokens([beam.row for beam in running], [beam.output[-1] for beam in running])

    def _advance(self, beams: _Beams, candidates: list[_Beam]) -> bool:
        """Set aside candidates that end, continue the others; return whether the search is over.

        Args:
            candidates: the likeliest continuations of the running beams, the best first.
        """
        text, num_beams = beams.text, self._decoding.num_beams
        length = len(candidates[0].output) ** self._decoding.length_penalty
        running = []
        for rank, beam in enumerate(candidates):
            if self._stop_rule.end_reason(beam.output, text.max_new_tokens) is None:
                running.append(beam)
            elif rank < num_beams:
                beams.ended.append(_Ended(beam.score / length, beam.output))
        beams.ended.sort(key=lambda ended: -ended.score)
        del beams.ended[num_beams:]
        if not running or (
            len(beams.ended) == num_beams and running[0].score / length <= beams.ended[-1].score
        ):
            text.output = self._stop_rule.trim(beams.ended[0].output)
            return True
        filling = running[0]._replace(score=-inf)
        beams.running = (running + [filling] * num_beams)[:num_beams]
        return False
