"""A byte-level tokenizer small enough to train in a test."""

import pytest
from tokenizers import models, pre_tokenizers, trainers

from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer, byte_level

TEXTS = ["the film is not good at all", "a good film, and a very good cast", "bad, bad, bad"]


def train(size: int) -> Tokenizer:
    backend = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return Tokenizer(backend)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train(size=280)


@pytest.fixture(scope="session")
def other_tokenizer() -> Tokenizer:
    return train(size=257)
