"""Tiny models with weights at which a mistake shows: ours, and their namesakes in transformers."""

import os
from collections.abc import Callable

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import torch
import transformers
from torch import nn

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, pack
from tunewise.models import FAMILIES, LanguageModel, ModelConfig
from tunewise.models.folder import build_model

VOCABULARY = 100
OWN_FIELDS = {"gpt_neo": {"window": 8, "attention": ("global", "local", "local")}}
"""What a family's shape needs beside the fields that all share."""

Sequences = list[list[int]]


@pytest.fixture(params=FAMILIES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    """A tiny shape of every family."""
    return FAMILIES[request.param].config_type(
        vocabulary_size=VOCABULARY,
        context_length=64,
        model_dim=32,
        num_heads=4,
        num_layers=3,
        mlp_dim=48,
        **OWN_FIELDS.get(request.param, {}),
    )


@pytest.fixture
def model(config: ModelConfig, device: torch.device) -> LanguageModel:
    """A tiny model of every family, with random weights, on every device."""
    model = build_model(config, "cpu")
    _randomise(model)
    return model.to(device).eval()


@pytest.fixture
def reference() -> Callable[..., nn.Module]:
    """Return a function that makes a tiny transformers model, as plain as it can be."""

    def make(family: str, num_labels: int | None = None, tied: bool = True) -> nn.Module:
        common = {
            "vocab_size": VOCABULARY,
            "tie_word_embeddings": tied,
            "attn_implementation": "eager",
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        } | ({} if num_labels is None else {"num_labels": num_labels})
        if family == "gpt2":
            config = transformers.GPT2Config(
                n_embd=32,
                n_head=4,
                n_layer=3,
                n_positions=64,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **common,
            )
            kinds = transformers.GPT2LMHeadModel, transformers.GPT2ForSequenceClassification
        else:
            config = transformers.GPTNeoConfig(
                hidden_size=32,
                num_heads=4,
                num_layers=4,
                attention_types=[[["global", "local"], 2]],
                window_size=8,
                max_position_embeddings=64,
                resid_dropout=0.0,
                embed_dropout=0.0,
                attention_dropout=0.0,
                classifier_dropout=0.0,
                **common,
            )
            kinds = transformers.GPTNeoForCausalLM, transformers.GPTNeoForSequenceClassification
        model = kinds[num_labels is not None](config).eval()
        _randomise(model)
        return model

    return make


@pytest.fixture
def sequences() -> Sequences:
    """Token ids of uneven lengths, some equal, some past the window, one of a single token."""
    generator = torch.Generator().manual_seed(1)
    lengths = [5, 23, 1, 9, 5, 23, 2, 40, 9, 9]
    return [torch.randint(1, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


@pytest.fixture
def packed(device: torch.device) -> Callable[..., Batch]:
    """Return a function that packs sequences, with labels or without, into one batch."""

    def make(sequences: Sequences, labels: list[int] | None = None) -> Batch:
        encoded = [
            Encoded(str(i), torch.tensor(ids).numpy(), 1, None if labels is None else labels[i])
            for i, ids in enumerate(sequences)
        ]
        (batch,) = pack(encoded, tokens_per_pass=10**6)
        return batch.to(device)

    return make


def _randomise(model: nn.Module) -> None:
    """Give every parameter values of its own: at the usual zeros and ones, mistakes hide."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            centre = 1.0 if bool((parameter == 1).all()) else 0.0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(centre + 0.15 * noise)
