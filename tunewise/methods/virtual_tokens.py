"""What a soft prompt and a prefix share: room for virtual tokens, and ids that they start from."""

import torch
from torch import Tensor

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.models import LanguageModel


def check_room(num_tokens: int, model: LanguageModel) -> None:
    """Return if virtual tokens leave a position of the model for text.

    Raises:
        ConfigError: if they do not.
    """
    if num_tokens >= model.config.context_length:
        raise ConfigError(
            f"method.tokens: {num_tokens} leaves no room for text; "
            f"the model has {model.config.context_length} positions"
        )


def first_ids(
    num_tokens: int,
    text: str | None,
    model: LanguageModel,
    generator: torch.Generator,
    tokenizer: Tokenizer | None,
) -> Tensor:
    """Return the ids (P,) of a text, repeated or cut to that number, or random ones without it."""
    if text is None:
        return torch.randint(model.config.vocabulary_size, (num_tokens,), generator=generator)
    assert tokenizer is not None
    ids = tokenizer.tokenize([text])[0]
    return torch.tensor([ids[index % len(ids)] for index in range(num_tokens)])
