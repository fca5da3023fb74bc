"""Virtual tokens of a soft prompt or a prefix: their room, and the ids of their initial values."""

import torch
from torch import Tensor

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.models import LanguageModel


def require_room_for_text(num_tokens: int, model: LanguageModel) -> None:
    """Raise ConfigError unless virtual tokens leave a position of the model for text."""
    if num_tokens >= model.config.context_length:
        raise ConfigError(
            f"method.tokens: {num_tokens} leaves no room for text; "
            f"the model has {model.config.context_length} positions"
        )


def choose_ids(
    num_tokens: int,
    text: str | None,
    model: LanguageModel,
    generator: torch.Generator,
    tokenizer: Tokenizer | None,
) -> Tensor:
    """Return ids of the vocabulary to start from, (P,): a text's, repeated or cut, or random ones.

    Args:
        num_tokens: P, how many ids are needed.
        text: the text, which the tokenizer reads; without it, the ids are random.
    """
    if text is None:
        return torch.randint(model.config.vocabulary_size, (num_tokens,), generator=generator)
    assert tokenizer is not None
    ids = tokenizer.tokenize([text])[0]
    return torch.tensor([ids[index % len(ids)] for index in range(num_tokens)])
