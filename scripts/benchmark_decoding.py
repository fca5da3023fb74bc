"""Tokens per second of greedy decoding: with the cache, in transformers, and without a cache.

    python scripts/benchmark_decoding.py --model gpt2

Sixteen random prompts of 10 to 60 tokens get 64 new tokens each, from random weights in fp32. The
ways take turns in one process, and the best round of each is shown: on a machine that others use
too, it is the round that was disturbed least. transformers gets the prompts as one padded batch.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import torch
import transformers

from tunewise.data.encode import IGNORE, Encoded
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.models import LanguageModel
from tunewise.models.decoding import DecodingConfig, Ids, generate
from tunewise.models.folder import POCKET_FOLDER, build_model, save_model, shape_of
from tunewise.models.language_model import initialise

NEW_TOKENS = 64


def main() -> None:
    """Time every way and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket", help="whose shape to take")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-uncached", action="store_true", help="it takes minutes")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    ours = build_model(shape_of(arguments.model), "cpu").eval()
    initialise(ours, generator)
    tokenizer = Tokenizer.load(POCKET_FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        save_model(ours, Path(folder), tokenizer.end_of_text)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    lengths = torch.randint(10, 61, (16,), generator=generator).tolist()
    size = ours.config.vocabulary_size
    prompts = [torch.randint(size, (n,), generator=generator).int().numpy() for n in lengths]
    decoding = DecodingConfig(max_new_tokens=NEW_TOKENS)
    ways: dict[str, Callable[[], object]] = {
        "cache": lambda: generate(ours, prompts, tokenizer, decoding),
        "transformers": lambda: by_transformers(theirs, prompts),
    }
    if not arguments.skip_uncached:
        ways["no cache"] = lambda: without_cache(ours, prompts)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    for name, taken in seconds.items():
        print(f"{name:<14}{16 * NEW_TOKENS / min(taken):9.1f} tokens/s")


@torch.inference_mode()
def by_transformers(model: transformers.PreTrainedModel, prompts: list[Ids]) -> torch.Tensor:
    """Return the prompts, padded on the left, and what is written after them."""
    width = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, width - len(prompt) :] = 1
    return model.generate(
        tokens, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0
    )


@torch.inference_mode()
def without_cache(model: LanguageModel, prompts: list[Ids]) -> list[list[int]]:
    """Return what is written after each prompt, every token computed anew at every step."""
    texts = [prompt.tolist() for prompt in prompts]
    for _ in range(NEW_TOKENS):
        rows = [Encoded("", torch.tensor(ids).numpy(), len(ids), label=0) for ids in texts]
        (batch,) = pack(rows, tokens_per_pass=10**6)
        hidden = model.hidden(batch.tokens, batch.positions, batch.segments)
        ends = batch.targets != IGNORE
        chosen = model.logits(hidden[ends]).argmax(-1).tolist()
        for place, token in zip(batch.segments[ends].tolist(), chosen, strict=True):
            texts[place].append(token)
    return texts


if __name__ == "__main__":
    main()
