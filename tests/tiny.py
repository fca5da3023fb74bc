"""Small things that many tests are made of: shapes, models, tokenizers, folders and rows.

A new family of models needs a line in `OWN_FIELDS`, and every law over families covers it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers
from torch import Tensor, nn

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, pack
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer, byte_level
from tunewise.methods import METHODS
from tunewise.models import FAMILIES, LanguageModel, ModelConfig
from tunewise.models.folder import build_model, save_model
from tunewise.models.language_model import initialise

# Shapes and models.

SIZES: dict[str, Any] = {
    "vocabulary_size": 257,
    "context_length": 48,
    "model_dim": 16,
    "num_heads": 2,
    "num_layers": 3,
    "mlp_dim": 64,
}
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt_neo": {"window": 4, "attention": ("global", "local", "global")},
}
"""What a family's shape has beside sizes. A tuple says what each layer is, and is repeated."""

every_family = pytest.mark.parametrize("family", FAMILIES)


def tiny_config(family: str = "gpt2", **changes: Any) -> ModelConfig:
    """Return the shape of a model that takes milliseconds to train."""
    sizes = SIZES | changes
    own = {
        name: tuple(islice(cycle(value), sizes["num_layers"])) if type(value) is tuple else value
        for name, value in OWN_FIELDS[family].items()
    }
    return FAMILIES[family].config_type(**own | sizes)


def tiny_model(
    family: str = "gpt2", noise: float = 0.15, seed: int = 7, **changes: Any
) -> LanguageModel:
    """Return a model whose weights are large enough for every layer to matter.

    Args:
        noise: the standard deviation of what is added to fresh weights.
    """
    model = build_model(tiny_config(family, **changes), "cpu")
    generator = torch.Generator().manual_seed(seed)
    initialise(model, generator)
    if noise:
        add_noise(model.parameters(), noise, generator)
    return model


@torch.no_grad()
def add_noise(
    parameters: Iterable[nn.Parameter], std: float, generator: torch.Generator | int = 0
) -> None:
    """Move parameters away from where they are."""
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    for parameter in parameters:
        parameter += std * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def draw_weights(model: nn.Module, std: float, generator: torch.Generator | int = 0) -> None:
    """Draw every parameter anew: at the usual zeros and ones, mistakes hide."""
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    for parameter in model.parameters():
        parameter.normal_(std=std, generator=generator)


@torch.no_grad()
def draw_around_start(model: nn.Module, std: float = 0.15) -> None:
    """Draw every parameter around zero, or around one if all of it is one, as in a norm."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        centre = 1.0 if bool((parameter == 1).all()) else 0.0
        parameter.copy_(centre + std * torch.randn(parameter.shape, generator=generator))


def save_tiny(
    folder: Path, family: str = "gpt2", tokenizer: Tokenizer | None = None, **changes: Any
) -> Path:
    """Write a tiny model, with its tokenizer if there is one, and return the folder."""
    save_model(
        tiny_model(family, **changes), folder, 0 if tokenizer is None else tokenizer.end_of_text
    )
    if tokenizer is not None:
        tokenizer.save(folder)
    return folder


REFERENCE_SIZES: dict[str, Any] = {
    "vocabulary_size": 100,
    "context_length": 64,
    "model_dim": 32,
    "num_heads": 4,
    "mlp_dim": 128,
}
"""Sizes at which ours and transformers are compared."""


def reference(family: str, num_labels: int | None = None, tied: bool = True) -> nn.Module:
    """Return a tiny model of transformers, as plain as it can be, with weights of some size."""
    import transformers  # takes two seconds, and few tests need it

    values = tiny_config(family, tied=tied, **REFERENCE_SIZES).to_hugging_face()
    values |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if num_labels is not None:
        values["num_labels"] = num_labels
    config = transformers.AutoConfig.for_model(**values)
    auto = (
        transformers.AutoModelForCausalLM
        if num_labels is None
        else transformers.AutoModelForSequenceClassification
    )
    model: nn.Module = auto.from_config(config, attn_implementation="eager").eval()
    draw_around_start(model)
    return model


def their_layers(model: LanguageModel) -> dict[str, list[str]]:
    """Return the linear layers of transformers' blocks, with ours in each: several if fused."""
    blocks = range(model.config.num_layers)
    ours = {f"blocks.{index}.{path}" for index in blocks for path in model.layers.values()}
    return {
        stored.theirs.removesuffix(".weight"): [n.removesuffix(".weight") for n in stored.ours]
        for stored in model.stored_tensors()
        if stored.ours[0].removesuffix(".weight") in ours
    }


def their_single_layers(model: LanguageModel) -> dict[str, str]:
    """Return transformers' name of each of our linear layers that is one there too."""
    return {paths[0]: layer for layer, paths in their_layers(model).items() if len(paths) == 1}


def is_transposed(model: LanguageModel) -> bool:
    """Return whether transformers stores the weights of this family as (in, out)."""
    return any(stored.transposed for stored in model.stored_tensors())


# Methods and tasks that suit a tiny model and the rows of `conftest.py`.

METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "last_blocks": {"blocks": 1},
    "soft_prompt": {"tokens": 3},
    "prefix": {"tokens": 3},
    "adapter": {"bottleneck": 8},
}
"""A method that is not named has its defaults."""
assert METHOD_SETTINGS.keys() <= METHODS.keys()

TASK_SETTINGS: dict[str, dict[str, Any]] = {
    "cloze": {"template": "{text} It is", "verbalizers": {"good": " good", "bad": " no good"}},
    "generation": {
        "template": "{instruction}: ",
        "completion": "{output}",
        "decoding": {"max_new_tokens": 5, "temperature": 1.0},
    },
    "instruction": {"without_input": "{instruction}:", "decoding": {"max_new_tokens": 5}},
    "summarization": {
        "template": "{text*}>",
        "summary": "{output}",
        "decoding": {"max_new_tokens": 5},
    },
}
"""What a kind of task needs beside a path."""


# Tokenizers.


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of 257 tokens: the end of a text, and one per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([END_OF_TEXT, *alphabet])}
    backend = byte_level(models.BPE(vocabulary, []))
    backend.add_special_tokens([END_OF_TEXT])
    return Tokenizer(backend)


REVIEWS = ["the film is not good at all", "a good film, and a very good cast", "bad, bad, bad"]


def bpe_tokenizer(size: int, texts: Sequence[str] = REVIEWS) -> Tokenizer:
    """Return a byte-level BPE tokenizer trained on some texts."""
    return Tokenizer(bpe_backend(size, texts, [END_OF_TEXT]))


def bpe_backend(size: int, texts: Sequence[str], special_tokens: Sequence[str] = ()) -> Backend:
    """Return a byte-level BPE tokenizer as the library `tokenizers` has it."""
    backend = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


# Rows and sequences.

Values = Mapping[str, Any]


def write_splits(folder: Path, rows: Sequence[Values] | Callable[[str], Sequence[Values]]) -> Path:
    """Write rows, or a function's rows of each split, as train, validation and test.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        lines = rows(split) if callable(rows) else rows
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{split}.jsonl").write_text(text)
    return folder


def uneven_sequences() -> list[list[int]]:
    """Return token ids of uneven lengths, some equal, some past the window, one of one token."""
    generator = torch.Generator().manual_seed(1)
    lengths = [5, 23, 1, 9, 5, 23, 2, 40, 9, 9]
    size = REFERENCE_SIZES["vocabulary_size"]
    return [torch.randint(1, size, (n,), generator=generator).tolist() for n in lengths]


def batch_of(*sequences: Sequence[int] | Tensor) -> Batch:
    """Return sequences of token ids as one batch, in which every token but a first is scored."""
    arrays = [np.asarray(ids, dtype=np.int32) for ids in sequences]
    encoded = [Encoded(str(number), ids, 1) for number, ids in enumerate(arrays)]
    (batch,) = pack(encoded, tokens_per_pass=sum(map(len, arrays)))
    return batch
