"""Continuations: a prompt, the tokens that are written after it, and its random source."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from tunewise.data.cache import Ids
from tunewise.errors import ModelError
from tunewise.generation.config import DecodingConfig
from tunewise.models.language_model import LanguageModel


class Draw(NamedTuple):
    """The seed and place that decide the sampled tokens of a text."""

    seed: int
    place: int
    """Place of the text's prompt in the list of prompts, from 0."""

    def generator(self) -> torch.Generator:
        """Return the random generator of this text alone."""
        state = int(np.random.SeedSequence(self).generate_state(1, np.uint64)[0])
        return torch.Generator().manual_seed(state)


@dataclass
class Continuation:
    """A prompt and the output that is being written after it."""

    prompt: Ids
    max_new_tokens: int
    """Maximum length of the output."""
    draw: Draw
    output: list[int] = field(default_factory=list)


def new_text(
    model: LanguageModel, prompt: Sequence[int] | Ids, decoding: DecodingConfig, draw: Draw
) -> Continuation:
    """Return a continuation whose output is still empty.

    Raises:
        ModelError: if the prompt is empty, or leaves no room for a token.
    """
    context = model.config.context_length - model.first_position
    if not 0 < len(prompt) < context:
        raise ModelError(
            f"prompt {draw.place} has {len(prompt)} tokens; with the model's {context} positions, "
            f"1 to {context - 1} leave room for an output"
        )
    max_new_tokens = min(decoding.max_new_tokens, context - len(prompt))
    return Continuation(np.asarray(prompt, dtype=np.int32), max_new_tokens, draw)
