"""A model writes on from prompts: greedily, by sampling, or by beam search.

Prompts are read packed, as in training; from then on a step is one token of every sequence that
has not ended, and one that has leaves the batch. Each sequence gets what it would get alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ModelError
from tunewise.models.cache import Cache
from tunewise.models.fast.loss import SLICE
from tunewise.models.fast.prepacked import prepacked
from tunewise.models.language_model import LanguageModel
from tunewise.settings import Settings

Ids = npt.NDArray[np.int32]

CACHED_PER_PASS = 4
"""How many positions are kept in the cache for each token of a pass."""


class DecodingConfig(Settings):
    """How a text is written."""

    max_new_tokens: int = Field(default=128, gt=0)
    """The most tokens of an output."""
    temperature: float = Field(default=0.0, ge=0)
    """What logits are divided by before a token is drawn; 0 always takes the likeliest."""
    top_k: int | None = Field(default=None, gt=0)
    """Draw from this many of the likeliest tokens."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw from the fewest tokens that hold this much probability (https://arxiv.org/abs/1904.09751)."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Makes tokens of the prompt and the output less likely, if above 1 (https://arxiv.org/abs/1909.05858)."""
    num_beams: int = Field(default=1, gt=0)
    """How many outputs are followed side by side; the likeliest is chosen in the end."""
    length_penalty: float = 1.0
    """Beams compare log p / length^this: above 0 favours long outputs, below 0 short ones."""
    stop: tuple[str, ...] = ()
    """Strings that end an output, which is cut before the first."""

    @field_validator("stop")
    @classmethod
    def _stops_can_be_seen(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("an empty string would end every output before it begins")
        return stop

    @model_validator(mode="after")
    def _beams_are_not_drawn(self) -> Self:
        if self.num_beams > 1 and self.temperature > 0:
            raise ValueError("beams take the likeliest tokens: set `temperature: 0`, or one beam")
        return self


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int] | Ids],
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    seed: int = 0,
    tokens_per_pass: int = 8192,
) -> list[list[int]]:
    """Return the new ids of each prompt, without the end-of-text token or what a stop string cuts.

    An output ends with the end of the text, before a stop string, after `max_new_tokens`, or where
    the model's context does. Where a stop string begins inside a token, that token and the rest of
    the string are kept: `text_of` cuts the text exactly.

    Args:
        prompts: ids, which may lie past the vocabulary, as a soft prompt's do.
        seed: settles, with a prompt's place in the list, what is drawn for it.
        tokens_per_pass: bounds memory; the result does not depend on it.

    Raises:
        ModelError: if a prompt is empty, or leaves no room for a token.
    """
    texts = [begun(model, prompt, decoding, (seed, n)) for n, prompt in enumerate(prompts)]
    was_training = model.training
    model.eval()
    rows = SLICE // model.config.vocabulary_size
    with prepacked(model):
        for group in _groups(texts, decoding, CACHED_PER_PASS * tokens_per_pass, rows):
            for _ in _write(model, group, Ends(tokenizer, decoding), decoding, tokens_per_pass):
                pass
    model.train(was_training)
    return [text.output for text in texts]


@torch.inference_mode()
def stream(
    model: LanguageModel,
    prompt: Sequence[int] | Ids,
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the pieces of the text that `generate` writes after a prompt, as its tokens come.

    What may belong to a stop string, or to a character that is not whole, waits for what follows.
    Beams are followed to their end before the first piece comes.

    Args:
        model: in evaluation mode.

    Raises:
        ModelError: if the prompt is empty, or leaves no room for a token.
    """
    text = begun(model, prompt, decoding, (seed, 0))
    pieces = Pieces(tokenizer, decoding)
    with prepacked(model):
        for _ in _write(model, [text], Ends(tokenizer, decoding), decoding, len(prompt)):
            if piece := pieces.next(text.output):
                yield piece
    if rest := pieces.rest(text.output):
        yield rest


class Pieces:
    """Parts the text of an output into pieces, as its tokens come; see `stream`."""

    def __init__(self, tokenizer: Tokenizer, decoding: DecodingConfig) -> None:
        self.tokenizer = tokenizer
        self.decoding = decoding
        self.waiting = max((len(stop) for stop in decoding.stop), default=1) - 1
        self.shown = 0

    def next(self, output: Sequence[int]) -> str:
        """Return what is new in an output that goes on, and can be shown; it may be nothing."""
        so_far = self._text(output).rstrip("\N{REPLACEMENT CHARACTER}")
        piece = so_far[self.shown : max(self.shown, len(so_far) - self.waiting)]
        self.shown += len(piece)
        return piece

    def rest(self, output: Sequence[int]) -> str:
        """Return what has not been shown of an output that has ended."""
        return self._text(output)[self.shown :]

    def _text(self, output: Sequence[int]) -> str:
        return text_of(output, self.tokenizer, self.decoding)


def begun(
    model: LanguageModel,
    prompt: Sequence[int] | Ids,
    decoding: DecodingConfig,
    seed: tuple[int, int],
) -> "Text":
    """Return a text of which nothing has been written.

    Raises:
        ModelError: if the prompt is empty, or leaves no room for a token.
    """
    context = model.config.context_length - model.first_position
    if not 0 < len(prompt) < context:
        raise ModelError(
            f"prompt {seed[1]} has {len(prompt)} tokens; with the model's {context} positions, "
            f"1 to {context - 1} leave room for an output"
        )
    limit = min(decoding.max_new_tokens, context - len(prompt))
    return Text(np.asarray(prompt, dtype=np.int32), limit, seed)


def text_of(ids: Sequence[int], tokenizer: Tokenizer, decoding: DecodingConfig) -> str:
    """Return the text of an output, cut exactly before the first stop string."""
    text = tokenizer.decode(ids)
    return text[: min((text.find(stop) for stop in decoding.stop if stop in text), default=None)]


@dataclass
class Text:
    """A prompt and what is being written after it."""

    prompt: Ids
    limit: int
    """The most new tokens."""
    seed: tuple[int, int]
    output: list[int] = field(default_factory=list)


class Ends:
    """Where outputs end."""

    def __init__(self, tokenizer: Tokenizer, decoding: DecodingConfig) -> None:
        self.tokenizer = tokenizer
        self.decoding = decoding
        # A token is a byte at least, so no stop string that ends in the last token begins before.
        self.reach = max((len(stop.encode()) for stop in decoding.stop), default=0)

    def reached(self, output: list[int], limit: int) -> bool:
        """Return whether an output has just come to its end."""
        return output[-1] in self.tokenizer.ends or len(output) == limit or self.stops(output)

    def cut(self, output: list[int]) -> list[int]:
        """Return an ended output without what does not belong to it."""
        if output[-1] in self.tokenizer.ends:
            return output[:-1]
        if not self.stops(output):
            return output
        text = text_of(output, self.tokenizer, self.decoding)
        shortest = max(0, len(output) - self.reach)
        parts = (output[:length] for length in range(shortest, len(output) + 1))
        return next(part for part in parts if text_of(part, self.tokenizer, self.decoding) == text)

    def stops(self, output: list[int]) -> bool:
        """Return whether the last token of an output has brought a stop string."""
        if not self.reach:
            return False
        tail = self.tokenizer.decode(output[-self.reach :])
        return any(stop in tail for stop in self.decoding.stop)


def _groups(
    texts: Sequence[Text], decoding: DecodingConfig, max_positions: int, max_rows: int
) -> Iterator[list[Text]]:
    """Yield texts to be written together, the shortest prompts first.

    Args:
        max_positions: the most that the cache of a group holds, unless a single text needs more.
        max_rows: the most rows, of which a text has one for each beam.
    """
    group: list[Text] = []
    for text in sorted(texts, key=lambda text: len(text.prompt)):
        rows = decoding.num_beams * (len(group) + 1)
        positions = rows * (len(text.prompt) + decoding.max_new_tokens)
        if group and (positions > max_positions or rows > max_rows):
            yield group
            group = []
        group.append(text)
    if group:
        yield group


class _Search(Protocol):
    """A way to choose tokens."""

    def choose(self, logits: Tensor, seen: Tensor) -> tuple[list[int], list[int]]:
        """Return the rows that go on and the next token of each.

        A row may be named twice, or never; none at all ends the search.

        Args:
            logits: (B, V) of the next token of each row.
            seen: (B, V), true where a token is in a row's prompt or output.
        """


def _write(
    model: LanguageModel,
    texts: list[Text],
    ends: Ends,
    decoding: DecodingConfig,
    tokens_per_pass: int,
) -> Iterator[None]:
    """Write the outputs of some texts, which stand in order of their prompts' length.

    Yields after each token of every output that has not ended.
    """
    device = next(model.parameters()).device
    cache = Cache(
        model.config.num_layers,
        [len(text.prompt) for text in texts],
        max(text.limit for text in texts),
        decoding.num_beams * len(texts),
        device,
        model.first_position,
    )
    logits = _read(model, texts, cache, tokens_per_pass)
    seen = ids_in([text.prompt for text in texts], logits)
    search: _Search = (_Beams if decoding.num_beams > 1 else _Single)(texts, ends, decoding)
    while True:
        rows, chosen = search.choose(logits, seen)
        if not rows:
            return
        yield
        cache.keep(rows)
        tokens = torch.tensor(chosen, device=device)  # (B,)
        places = torch.arange(len(rows), device=device)  # (B,)
        seen = seen[rows]  # (B, V)
        seen[places, tokens] = True
        hidden = model.hidden(tokens, cache.advance(), places, cache)  # (B, D)
        logits = model.logits(hidden).float()  # (B, V)


def _read(model: LanguageModel, texts: list[Text], cache: Cache, tokens_per_pass: int) -> Tensor:
    """Return the logits (B, V) of what follows each prompt; the prompts are in the cache then."""
    prompts = [Encoded.prompt(text.prompt) for text in texts]
    logits = []
    for batch in pack(prompts, tokens_per_pass):
        batch = batch.to(cache.device)
        places = batch.tokens, batch.positions, batch.segments
        hidden = model.hidden(*places, cache, rows=batch.scored)  # (M, D)
        logits.append(model.logits(hidden).float())
    return torch.cat(logits)


def ids_in(prompts: list[Ids], logits: Tensor) -> Tensor:
    """Return (B, V), true where an id of the vocabulary is in a prompt."""
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        seen[row, prompt[prompt < logits.shape[1]]] = True
    return seen


class _Single:
    """One output for each text: the likeliest tokens, or tokens that are drawn."""

    def __init__(self, texts: list[Text], ends: Ends, decoding: DecodingConfig) -> None:
        self.ends = ends
        self.decoding = decoding
        self.live = [(text, generator_of(text.seed)) for text in texts]

    def choose(self, logits: Tensor, seen: Tensor) -> tuple[list[int], list[int]]:
        """Return the rows that go on and the next token of each."""
        generators = [generator for _, generator in self.live]
        tokens = next_tokens(logits, seen, self.decoding, generators)
        ended = []
        for (text, _), token in zip(self.live, tokens, strict=True):
            text.output.append(token)
            ended.append(self.ends.reached(text.output, text.limit))
            if ended[-1]:
                text.output = self.ends.cut(text.output)
        rows = closed_up(ended)
        self.live = [self.live[row] for row in rows]
        return rows, [tokens[row] for row in rows]


class _Beam(NamedTuple):
    """An output that goes on."""

    score: float
    """log p of the output; -inf for one that only fills the batch."""
    row: int
    """Where all but its last token was read."""
    output: list[int]


@dataclass
class _Followed:
    """The outputs of a text that are followed side by side."""

    text: Text
    running: list[_Beam]
    ended: list[tuple[float, list[int]]] = field(default_factory=list)
    """log p / length^penalty and the output, the best first."""


class _Beams:
    """The likeliest of `num_beams` outputs for each text.

    Of the `num_beams` likeliest continuations, those that end are put aside; the likeliest that do
    not end go on. The search is over when as many have been put aside and the best that goes on
    is, at its present length, no better than the worst of them. This is what transformers does
    with `early_stopping=False`.
    """

    def __init__(self, texts: list[Text], ends: Ends, decoding: DecodingConfig) -> None:
        self.ends = ends
        self.decoding = decoding
        self.live = [_Followed(text, [_Beam(0.0, row, [])]) for row, text in enumerate(texts)]

    def choose(self, logits: Tensor, seen: Tensor) -> tuple[list[int], list[int]]:
        """Return the rows that go on and the next token of each."""
        scores = penalised(logits.log_softmax(-1), seen, self.decoding.repetition_penalty)
        so_far = [beam.score for followed in self.live for beam in followed.running]
        scores = scores + torch.tensor(so_far, device=scores.device)[:, None]  # (B, V)
        # So many tokens end an output that at least `num_beams` of these do not.
        num_ends = len(self.ends.tokenizer.ends)
        best = scores.view(len(self.live), -1).topk((1 + num_ends) * self.decoding.num_beams)
        row, over = 0, []
        for followed, values, places in zip(
            self.live, best.values.tolist(), best.indices.tolist(), strict=True
        ):
            beams = [divmod(place, logits.shape[1]) for place in places]
            candidates = [
                _Beam(score, row + beam, [*followed.running[beam].output, token])
                for score, (beam, token) in zip(values, beams, strict=True)
                if score > -inf
            ]
            row += len(followed.running)
            over.append(self._is_over(followed, candidates))
        self.live = [self.live[place] for place in closed_up(over)]
        running = [beam for followed in self.live for beam in followed.running]
        return [beam.row for beam in running], [beam.output[-1] for beam in running]

    def _is_over(self, followed: _Followed, candidates: list[_Beam]) -> bool:
        """Part the continuations, the likeliest first, and return whether the search is over."""
        text, num_beams = followed.text, self.decoding.num_beams
        length = len(candidates[0].output) ** self.decoding.length_penalty
        running = []
        for rank, beam in enumerate(candidates):
            if not self.ends.reached(beam.output, text.limit):
                running.append(beam)
            elif rank < num_beams:
                followed.ended.append((beam.score / length, beam.output))
        followed.ended.sort(key=lambda ended: -ended[0])
        del followed.ended[num_beams:]
        if not running or (
            len(followed.ended) == num_beams and running[0].score / length <= followed.ended[-1][0]
        ):
            text.output = self.ends.cut(followed.ended[0][1])
            return True
        filling = running[0]._replace(score=-inf)
        followed.running = (running + [filling] * num_beams)[:num_beams]
        return False


def next_tokens(
    logits: Tensor, seen: Tensor, decoding: DecodingConfig, generators: Sequence[torch.Generator]
) -> list[int]:
    """Return the next token of each row: the likeliest, or one that is drawn.

    Args:
        logits: (B, V); `seen` as in `_Search.choose`.
        generators: of the rows, in their order.
    """
    scores = penalised(logits, seen, decoding.repetition_penalty)  # (B, V)
    if decoding.temperature > 0:
        scores = _noisy(filtered(scores, decoding).softmax(-1), generators)
    tokens: list[int] = scores.argmax(-1).tolist()
    return tokens


def _noisy(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Return (B, V), the largest of which is a draw from each row: p / exponential noise.

    The noise belongs to a row and a token. That the last bits of p depend on what else is in
    the batch hardly ever changes a draw, as it would if one number fell into sums of p.
    """
    size = probabilities.shape[1]
    uniform = torch.stack(
        [torch.rand(size, dtype=torch.float64, generator=generator) for generator in generators]
    )
    return probabilities / -uniform.to(probabilities.device).log()


def penalised(scores: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Return (B, V): scores times the penalty, or divided by it if positive, where seen."""
    if penalty == 1:
        return scores
    less = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(seen, less, scores)


def filtered(logits: Tensor, decoding: DecodingConfig) -> Tensor:
    """Return (B, V), logits over the temperature, -inf where `top_k` or `top_p` leaves out."""
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


def generator_of(seed: tuple[int, int]) -> torch.Generator:
    """Return the generator of a text, which no other text's draws move."""
    state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state)


def closed_up(over: Sequence[bool]) -> list[int]:
    """Return what is not over; the last ones fill the gaps, so that few change their place."""
    live = [place for place, is_over in enumerate(over) if not is_over]
    return [live.pop() if over[place] else place for place in range(len(live))]
