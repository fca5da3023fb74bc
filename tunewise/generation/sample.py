"""Sampling: the next token is the likeliest one, or a random one.

Shapes: B rows, V vocabulary.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from tunewise.data.cache import Ids
from tunewise.errors import NotFiniteError
from tunewise.generation.config import DecodingConfig
from tunewise.generation.continuation import Continuation
from tunewise.generation.stop import StopRule
from tunewise.models.cache import compact_rows

NO_TOKEN = -1
"""In place of a token that cannot be chosen."""


class NextTokens(NamedTuple):
    """The tokens of the next step: none if every output has ended."""

    rows: list[int]
    """The present rows that continue, in their new order; one may be named twice, or not at all."""
    tokens: list[int]
    """The next token of each."""


class SingleSearch:
    """Follows one output for each text: greedy decoding, or sampling."""

    def __init__(
        self, texts: list[Continuation], stop_rule: StopRule, decoding: DecodingConfig
    ) -> None:
        self._stop_rule = stop_rule
        self._decoding = decoding
        self._live = [(text, text.draw.generator()) for text in texts]

    def choose(self, logits: Tensor, seen: Tensor) -> NextTokens:
        """Add a token to every output, and return those of the outputs that have not ended.

        Args:
            logits: (B, V) of the next token of each row.
            seen: (B, V), true where a token is in a row's prompt or output.

        Raises:
            NotFiniteError: if the logits of a row are not finite.
        """
        generators = [generator for _, generator in self._live]
        tokens = choose_tokens(logits, seen, self._decoding, generators)
        if NO_TOKEN in tokens:
            raise NotFiniteError.of()
        ended = []
        for (text, _), token in zip(self._live, tokens, strict=True):
            text.output.append(token)
            ended.append(self._stop_rule.end_reason(text.output, text.max_new_tokens) is not None)
            if ended[-1]:
                text.output = self._stop_rule.trim(text.output)
        rows = compact_rows(ended)
        self._live = [self._live[row] for row in rows]
        return NextTokens(rows, [tokens[row] for row in rows])


def choose_tokens(
    logits: Tensor, seen: Tensor, decoding: DecodingConfig, generators: Sequence[torch.Generator]
) -> list[int]:
    """Return the next token of each row: the likeliest, or a sampled one.

    It is `NO_TOKEN` where the best logit is not finite, since none is then the likeliest.

    Args:
        logits: (B, V).
        seen: (B, V), true where a token is in a row's prompt or output.
        generators: one for each row.
    """
    scores = penalise_seen(logits, seen, decoding.repetition_penalty)  # (B, V)
    if decoding.temperature > 0:
        scores = _perturb(filter_logits(scores, decoding).softmax(-1), generators)
    best = scores.argmax(-1, keepdim=True)  # (B, 1): a nan, where there is one
    is_finite = scores.gather(-1, best).isfinite()
    tokens: list[int] = best.where(is_finite, NO_TOKEN).flatten().tolist()
    return tokens


def seen_tokens(texts: list[Ids], logits: Tensor) -> Tensor:
    """Return (B, V), true where a token is in a row's text; virtual tokens are left out.

    Args:
        logits: (B, V), whose shape and device the result has.
    """
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for row, text in enumerate(texts):
        seen[row, text[text < logits.shape[1]]] = True
    return seen


def penalise_seen(scores: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Return (B, V): where seen, positive scores divided by the penalty, others times it."""
    if penalty == 1:
        return scores
    penalised = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(seen, penalised, scores)


def filter_logits(logits: Tensor, decoding: DecodingConfig) -> Tensor:
    """Return (B, V): logits over the temperature, -inf where `top_k` or `top_p` excludes one."""
    logits = logits / decoding.temperature
    if decoding.top_k is not None:
        best = logits.topk(min(decoding.top_k, logits.shape[1])).values  # (B, k)
        logits = logits.masked_fill(logits < best[:, -1:], -inf)
    if decoding.top_p is not None:
        ascending, order = logits.sort()  # (B, V)
        left_out = ascending.softmax(-1).cumsum(-1) <= 1 - decoding.top_p
        left_out[:, -1] = False
        logits = logits.masked_fill(left_out.scatter(1, order, left_out), -inf)
    return logits


def _perturb(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Return (B, V), p / exponential noise: the largest entry of a row is a sample from its p.

    Each row and token has noise of its own. So the last bits of p, which depend on what else is in
    the batch, hardly ever change a sample; they would if one random number were compared with sums
    of p.
    """
    size = probabilities.shape[1]
    uniform = torch.stack(
        [torch.rand(size, dtype=torch.float64, generator=generator) for generator in generators]
    )
    return probabilities / -uniform.to(probabilities.device).log()
