"""A byte-level tokenizer small enough to train in a test."""

import pytest
from tiny import bpe_tokenizer

from tunewise.data.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return bpe_tokenizer(280)


@pytest.fixture(scope="session")
def other_tokenizer() -> Tokenizer:
    return bpe_tokenizer(257)
