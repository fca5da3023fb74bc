"""Measure greedy decoding in tokens per second: tunewise, transformers, and without a cache.

    python scripts/benchmark_decoding.py --model gpt2 cache transformers
    python scripts/benchmark_decoding.py --model gpt2 --texts 4 --bf16 cache not-prepacked

Random prompts of 10 to 60 tokens get 64 new tokens each, from random weights. The ways to decode
take turns in one process for three rounds. The best round of each is printed, once by wall-clock
time and once by processor time, which other programs on the machine disturb less.
"""

import argparse
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers

from tunewise.data.encode import IGNORE, Encoded
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.generation import generate as decoding
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.models.folder import POCKET_FOLDER, build_model, save_model, shape_of
from tunewise.models.language_model import initialise

NEW = 64
TOKENIZER = Tokenizer.load(POCKET_FOLDER)


def with_cache(ours: Any, theirs: Any, prompts: list[Any]) -> None:
    """Decode as tunewise does."""
    generate(ours, prompts, TOKENIZER, DecodingConfig(max_new_tokens=NEW))


def not_prepacked(ours: Any, theirs: Any, prompts: list[Any]) -> None:
    """Decode as tunewise does, but with weights laid out as PyTorch keeps them."""
    with patch.object(decoding, "prepacked", lambda model: nullcontext()):
        with_cache(ours, theirs, prompts)


def by_transformers(ours: Any, theirs: Any, prompts: list[Any]) -> None:
    """Decode all prompts as one batch, padded on the left, with transformers."""
    pad = torch.nn.utils.rnn.pad_sequence
    tokens = pad([torch.tensor(ids) for ids in prompts], batch_first=True, padding_side="left")
    mask = pad([torch.ones(len(ids)) for ids in prompts], batch_first=True, padding_side="left")
    theirs.generate(tokens, attention_mask=mask, do_sample=False, max_new_tokens=NEW)


@torch.inference_mode()
def without_cache(ours: Any, theirs: Any, prompts: list[Any]) -> None:
    """Decode without a cache: every step computes all tokens again."""
    texts = [list(ids) for ids in prompts]
    for _ in range(NEW):
        rows = [Encoded.prompt(torch.tensor(ids).numpy()) for ids in texts]
        (batch,) = pack(rows, tokens_per_pass=10**6)
        ends = batch.targets != IGNORE
        hidden = ours.hidden(batch)[ends]
        for place, token in zip(batch.segments[ends], ours.logits(hidden).argmax(-1), strict=True):
            texts[place].append(int(token))


WAYS = {
    "cache": with_cache,
    "not-prepacked": not_prepacked,
    "transformers": by_transformers,
    "no-cache": without_cache,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="pocket", help="model whose shape is used")
    parser.add_argument("--texts", type=int, default=16, help="number of prompts")
    parser.add_argument("--bf16", action="store_true", help="decode in bf16 instead of fp32")
    parser.add_argument("ways", nargs="*", default=list(WAYS), help=", ".join(WAYS))
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    ours = build_model(shape_of(arguments.model), "cpu")
    initialise(ours.requires_grad_(False), generator)
    with tempfile.TemporaryDirectory() as folder:
        save_model(ours, Path(folder), TOKENIZER.end_of_text)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    if arguments.bf16:
        ours.set_precision(torch.bfloat16)
        theirs.to(torch.bfloat16)
    lengths = torch.randint(10, 61, (arguments.texts,), generator=generator).tolist()
    size = TOKENIZER.size
    prompts = [torch.randint(size, (n,), generator=generator).tolist() for n in lengths]
    best = {way: (float("inf"), float("inf")) for way in arguments.ways}
    for _ in range(3):
        for way in arguments.ways:
            wall, busy = time.perf_counter(), time.process_time()
            WAYS[way](ours.eval(), theirs, prompts)
            taken = time.perf_counter() - wall, time.process_time() - busy
            best[way] = min(best[way][0], taken[0]), min(best[way][1], taken[1])
    for way, (wall, busy) in best.items():
        size = arguments.texts * NEW
        rates = f"{size / wall:9.0f} tokens/s of wall time {size / busy:9.0f} of processor time"
        print(f"{way:<14}{rates}")
