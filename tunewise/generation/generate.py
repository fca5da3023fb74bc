"""Generation: a model continues prompts greedily, by sampling, or by beam search.

Prompts are read packed, as in training. After that a step computes one token of every sequence
that has not ended; a sequence that has ended leaves the batch. Each sequence gets the same
tokens as it would alone.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tunewise.data.cache import Ids
from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.generation.beams import BeamSearch
from tunewise.generation.config import DecodingConfig
from tunewise.generation.continuation import Continuation, Draw, new_text
from tunewise.generation.sample import SingleSearch, seen_tokens
from tunewise.generation.stop import StopRule, TextStream
from tunewise.models.cache import Cache
from tunewise.models.fast.loss import SLICE
from tunewise.models.fast.prepacked import prepacked
from tunewise.models.language_model import LanguageModel
from tunewise.tally import tell_done

CACHED_PER_PASS = 4
"""Most positions of the cache for each token of a pass."""


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int] | Ids],
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    seed: int = 0,
    tokens_per_pass: int = 8192,
) -> list[list[int]]:
    """Return the new ids of each prompt, without the end-of-text token or a stop string.

    An output ends at an end-of-text token, before a stop string, after `max_new_tokens`, or at the
    end of the model's context. Where a stop string begins inside a token, that token and the rest
    of the string are kept: `text_of` cuts the text exactly.

    Args:
        prompts: ids, which may lie past the vocabulary, as a soft prompt's do.
        seed: decides, with a prompt's place in the list, which tokens are sampled.
        tokens_per_pass: bounds memory; the result does not depend on it.

    Raises:
        ModelError: if a prompt is empty, or leaves no room for a token.
        NotFiniteError: if the model's outputs are not finite.
    """
    texts = [new_text(model, ids, decoding, Draw(seed, n)) for n, ids in enumerate(prompts)]
    stop_rule = StopRule(tokenizer, decoding)
    was_training = model.training
    model.eval()
    max_rows = SLICE // model.config.vocabulary_size
    try:
        with prepacked(model):
            for group in _groups(texts, decoding, CACHED_PER_PASS * tokens_per_pass, max_rows):
                for _ in _write(model, group, stop_rule, decoding, tokens_per_pass):
                    pass
                tell_done("texts written", len(group))
    finally:
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

    Text that may belong to a stop string, or to an incomplete character, waits for the next tokens.
    Beam search ends before the first piece comes.

    Args:
        model: in evaluation mode.

    Raises:
        ModelError: if the prompt is empty, or leaves no room for a token.
        NotFiniteError: if the model's outputs are not finite.
    """
    text = new_text(model, prompt, decoding, Draw(seed, 0))
    pieces = TextStream(tokenizer, decoding)
    with prepacked(model):
        for _ in _write(model, [text], StopRule(tokenizer, decoding), decoding, len(prompt)):
            if piece := pieces.next_piece(text.output):
                yield piece
    if rest := pieces.last_piece(text.output):
        yield rest


def _groups(
    texts: Sequence[Continuation], decoding: DecodingConfig, max_positions: int, max_rows: int
) -> Iterator[list[Continuation]]:
    """Yield the texts that are written together, the shortest prompts first.

    Args:
        max_positions: most positions of a group's cache, unless a single text needs more.
        max_rows: most rows of a group; a text has one for each beam.
    """
    group: list[Continuation] = []
    for text in sorted(texts, key=lambda text: len(text.prompt)):
        rows = decoding.num_beams * (len(group) + 1)
        positions = rows * (len(text.prompt) + decoding.max_new_tokens)
        if group and (positions > max_positions or rows > max_rows):
            yield group
            group = []
        group.append(text)
    if group:
        yield group


def _write(
    model: LanguageModel,
    texts: list[Continuation],
    stop_rule: StopRule,
    decoding: DecodingConfig,
    tokens_per_pass: int,
) -> Iterator[None]:
    """Write the outputs of some texts; yield after each step while not all have ended.

    Args:
        texts: the texts, in order of their prompts' lengths.
    """
    device = next(model.parameters()).device
    cache = Cache(
        model.config.num_layers,
        [len(text.prompt) for text in texts],
        room=max(text.max_new_tokens for text in texts),
        max_rows=decoding.num_beams * len(texts),
        device=device,
        num_before=model.first_position,
    )
    logits = _read(model, texts, cache, tokens_per_pass)
    seen = seen_tokens([text.prompt for text in texts], logits)
    search: SingleSearch | BeamSearch
    if decoding.num_beams > 1:
        search = BeamSearch(texts, stop_rule, decoding)
    else:
        search = SingleSearch(texts, stop_rule, decoding)
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
        hidden = model.next_hidden(tokens, cache)  # (B, D)
        logits = model.logits(hidden).float()  # (B, V)


def _read(
    model: LanguageModel, texts: list[Continuation], cache: Cache, tokens_per_pass: int
) -> Tensor:
    """Read the prompts into the cache, and return the logits (B, V) of the token after each."""
    prompts = [Encoded.prompt(text.prompt) for text in texts]
    logits = []
    for batch in pack(prompts, tokens_per_pass):
        batch = batch.to(cache.device)
        hidden = model.scored_hidden(batch, cache)  # (M, D)
        logits.append(model.logits(hidden).float())
    return torch.cat(logits)
