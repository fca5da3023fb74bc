"""Tiny models of every family, in folders as they come from the hub, and texts to train on."""

from pathlib import Path

import pytest
import torch
from tokenizers import models, pre_tokenizers, trainers

from tunewise.data.encode import Encoded, encode_labelled, encode_texts_whole
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer, byte_level
from tunewise.models.folder import build_model, save_model
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.gpt_neo import GPTNeoConfig
from tunewise.models.language_model import initialise

TEXTS = ["the film is not good at all", "a good film, and a very good cast", "bad, bad, bad"]
LABELS = ("bad", "fair", "good")
SHAPE = {
    "vocabulary_size": 280,
    "context_length": 40,
    "model_dim": 16,
    "num_heads": 2,
    "num_layers": 3,
    "mlp_dim": 64,
}
SHAPES = {
    "gpt2": GPT2Config(**SHAPE),
    "gpt_neo": GPTNeoConfig(**SHAPE, window=4, attention=("global", "local", "global")),
}


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    backend = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return Tokenizer(backend)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Path]:
    """Return a model folder per family. Its weights are large enough for every layer to matter."""
    paths = {}
    for family, shape in SHAPES.items():
        generator = torch.Generator().manual_seed(7)
        model = build_model(shape, "cpu")
        initialise(model, generator)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
        paths[family] = tmp_path_factory.mktemp(family)
        save_model(model, paths[family], tokenizer.end_of_text)
        tokenizer.save(paths[family])
    return paths


@pytest.fixture(scope="session")
def texts(tokenizer: Tokenizer) -> list[Encoded]:
    """Return texts of uneven lengths, to be learnt whole."""
    examples = [Example(f"rows:{n}", "", text) for n, text in enumerate([*TEXTS, "", "a"])]
    return encode_texts_whole(examples, tokenizer, Layout(24)).sequences


@pytest.fixture(scope="session")
def labelled(tokenizer: Tokenizer) -> list[Encoded]:
    """Return texts with a label each."""
    examples = [
        Example(f"rows:{n}", text, label, LABELS)
        for n, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]
    return encode_labelled(examples, tokenizer, Layout(24)).sequences
