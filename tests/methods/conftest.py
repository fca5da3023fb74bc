"""Tiny models of every family, in folders as they come from the hub, and texts to train on."""

from pathlib import Path

import pytest
from tiny import REVIEWS, bpe_tokenizer, save_tiny

from tunewise.data.encode import Encoded, encode_labelled, encode_texts_whole
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import Tokenizer
from tunewise.models import FAMILIES

VOCABULARY = 280
LABELS = ("bad", "fair", "good")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return bpe_tokenizer(VOCABULARY)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Path]:
    """Return a model folder per family. Its weights are large enough for every layer to matter."""
    sizes = {"vocabulary_size": VOCABULARY, "context_length": 40}
    return {
        family: save_tiny(tmp_path_factory.mktemp(family), family, tokenizer, **sizes)
        for family in FAMILIES
    }


@pytest.fixture(scope="session")
def texts(tokenizer: Tokenizer) -> list[Encoded]:
    """Return texts of uneven lengths, to be learnt whole."""
    examples = [Example(f"rows:{n}", "", text) for n, text in enumerate([*REVIEWS, "", "a"])]
    return encode_texts_whole(examples, tokenizer, Layout(24)).sequences


@pytest.fixture(scope="session")
def labelled(tokenizer: Tokenizer) -> list[Encoded]:
    """Return texts with a label each."""
    examples = [
        Example(f"rows:{n}", text, label, LABELS)
        for n, (text, label) in enumerate(zip(REVIEWS, LABELS, strict=True))
    ]
    return encode_labelled(examples, tokenizer, Layout(24)).sequences
