"""Ways of writing, tokenizers for the tiny models, and what transformers writes in each way."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import batch_of
from tokenizers import models, pre_tokenizers
from torch import Tensor, nn

from tunewise.data.tokenizer import Tokenizer, byte_level
from tunewise.generation.config import DecodingConfig
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.folder import load_model

Sequences = list[list[int]]

VOCABULARY = 100
NEVER = VOCABULARY
"""An end-of-text token that the tiny models do not know, so that no output ends with it."""
LENGTH = 16

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
GREEDY = DecodingConfig(max_new_tokens=LENGTH)
SAMPLED = GREEDY.model_copy(update={"temperature": 1.0, "top_k": 50, "top_p": 0.95})
BEAMS = GREEDY.model_copy(update={"num_beams": 3, "repetition_penalty": 1.2})
EVERY_WAY = pytest.mark.parametrize(
    "way", [GREEDY, SAMPLED, BEAMS], ids=["greedy", "sampled", "beams"]
)


def load_ours(theirs: nn.Module, folder: Path, device: torch.device) -> LanguageModel:
    theirs.save_pretrained(folder)
    return load_model(folder).to(device).eval()


def written_by_transformers(
    theirs: Any, ids: list[int], way: DecodingConfig, end: int, criteria: list[Any] | None = None
) -> list[int]:
    """Return what transformers writes after one prompt."""
    settings = transformers.GenerationConfig(
        max_length=min(len(ids) + way.max_new_tokens, 64),
        do_sample=False,
        num_beams=way.num_beams,
        length_penalty=way.length_penalty,
        repetition_penalty=way.repetition_penalty,
        early_stopping=False,
        eos_token_id=end,
        pad_token_id=0,
    )
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        whole = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=settings,
            stopping_criteria=criteria,
        )
    new: list[int] = whole[0, len(ids) :].tolist()
    return new[: new.index(end)] if end in new else new


@torch.no_grad()
def next_logits(model: LanguageModel, ids: list[int]) -> Tensor:
    """Return the logits (V,) of what follows."""
    device = next(model.parameters()).device
    hidden = model.hidden(batch_of(ids).to(device))
    return model.logits(hidden[-1:])[0].float()


def token_that_ends_some(outputs: Sequences) -> int:
    """Return a token that is in some outputs, not in all, and is the first of none."""
    counts = Counter(token for ids in outputs for token in set(ids[1:]))
    firsts = {ids[0] for ids in outputs}
    return next(
        token
        for token, count in counts.most_common()
        if count < len(outputs) and token not in firsts
    )


def tokenizer_of(end: int, kind: str = "letters") -> Tokenizer:
    """Return a tokenizer of 100 tokens, and one to end a text with if that is not among them.

    Args:
        kind: what a token is: two letters, one byte, or a character's end and another's start.
    """
    if kind == "letters":
        pieces = [first + second for first in "abcdefghij" for second in "klmnopqrst"]
    elif kind == "bytes":
        pieces = [_bytes_of(chr(code)) for code in range(20, 120)]
    else:
        characters = [_bytes_of(chr(0xC0 + index)) for index in range(128)]  # of two bytes each
        pieces = [characters[index][1] + characters[index][0] for index in range(100)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "end"])}
    return Tokenizer(byte_level(models.BPE(vocabulary, [])), [*pieces, "end"][end])


def _bytes_of(text: str) -> str:
    """Return the bytes of a text as a byte-level vocabulary writes them, a character each."""
    return "".join(
        part for part, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    )
