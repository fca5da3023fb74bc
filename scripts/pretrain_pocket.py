"""Pretrain the embedded model on public-domain novels and on the grammar's reviews.

    python scripts/pretrain_pocket.py --corpus ../shared/data/corpus --out build/pocket

writes a model folder in Hugging Face layout and `log.jsonl`, a line per update and per evaluation.
`--epochs 0` writes the randomly initialised model of the same shape: what pretraining is worth is
the difference between the two.

The reviews are unlabelled, drawn with another seed than the `pocket_reviews` task's, and contain
none of its texts. A part of both sources is spaced as many public data sets are: `it 's n't good .`
"""

import argparse
import itertools
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import models, pre_tokenizers, trainers

from tunewise.data.encode import Encoded
from tunewise.data.example import Example
from tunewise.data.rows import Split, read_split
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer, byte_level
from tunewise.device import choose_device, choose_dtype
from tunewise.evaluation.evaluate import evaluate
from tunewise.metrics.likelihood import loss
from tunewise.models.catalog import POCKET_CONFIG
from tunewise.models.folder import build_model, save_model
from tunewise.models.language_model import LanguageModel, initialise
from tunewise.pocket.grammar import passages
from tunewise.tasks.language_modeling import LanguageModeling
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train

REVIEW_CHARACTERS = 16_000_000
"""How much of the grammar's text is trained on, beside 34 million characters of novels."""
PAGE = 12
"""Reviews per text."""
SPACED_NOVELS, SPACED_REVIEWS = 0.25, 0.5
"""The shares of texts whose punctuation stands apart."""
SEED = 11
LONG_SHARE = 0.15
"""The share of pieces as long as the context; the rest are half as long, which is faster."""


def spaced(text: str) -> str:
    """Return the text with punctuation and clitics apart, as the Penn Treebank has it."""
    text = re.sub(r"[\"“](?=\w)", " `` ", text)
    text = re.sub(r"[\"”]", " '' ", text)
    text = re.sub(r"n't\b", " n't", text)
    text = re.sub(r"'(s|re|ve|ll|d|m)\b", r" '\1", text)
    text = re.sub(r"([.,;:!?()])(?=\s|$|['\")])", r" \1 ", text)
    return re.sub(r" +", " ", text).strip()


def novels(corpus: Path, split: Split) -> Iterator[str]:
    """Yield chapters' worth of each book: some 8,000 characters of whole paragraphs."""
    chance = random.Random(SEED)
    for row in read_split(corpus, split):
        piece: list[str] = []
        for paragraph in row.text("text").split("\n\n"):
            piece.append(paragraph)
            if sum(map(len, piece)) > 8000:
                text = "\n\n".join(piece)
                yield spaced(text) if chance.random() < SPACED_NOVELS else text
                piece = []


def reviews(seed: int, characters: int) -> Iterator[str]:
    """Yield pages of generated reviews, some `characters` in all."""
    chance, stream, total = random.Random(seed), passages(seed), 0
    while total < characters:
        text = "\n\n".join(itertools.islice(stream, PAGE))
        total += len(text)
        yield spaced(text) if chance.random() < SPACED_REVIEWS else text


def train_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Return a byte-level BPE of some number of entries."""
    backend = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend)


def encode(
    texts: Sequence[str], tokenizer: Tokenizer, name: str
) -> tuple[list[Example], list[Encoded]]:
    """Return texts as examples and as pieces, of which some are as long as the context."""
    task = LanguageModeling(name=name)
    examples = [Example(f"{name}:{number}", "", text) for number, text in enumerate(texts)]
    num_long = round(LONG_SHARE * len(examples))
    context = POCKET_CONFIG.context_length
    long = task.encode(examples[:num_long], tokenizer, context).sequences
    return examples, long + task.encode(examples[num_long:], tokenizer, context // 2).sequences


def save(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model in bf16, which halves the package and is what it was trained in."""
    masters = {name: p.data for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    save_model(model, folder, tokenizer.end_of_text)
    for name, parameter in model.named_parameters():
        parameter.data = masters[name]
    tokenizer.save(folder)


def main() -> None:
    """Pretrain."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of train_*.txt.gz books")
    parser.add_argument("--out", type=Path, required=True, help="where to write the model folder")
    parser.add_argument(
        "--epochs", type=int, default=1, help="passes over the text; 0: random weights"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--tokenizer", type=Path, help="a folder to take the tokenizer from")
    arguments = parser.parse_args()

    chance = random.Random(SEED)
    novel_texts = list(novels(arguments.corpus, "train"))
    review_texts = list(reviews(SEED, REVIEW_CHARACTERS))
    chance.shuffle(novel_texts)
    if arguments.tokenizer:
        tokenizer = Tokenizer.load(arguments.tokenizer)
    else:
        tokenizer = train_tokenizer(
            [*novel_texts, *review_texts[: len(review_texts) // 4]], POCKET_CONFIG.vocabulary_size
        )
    device = choose_device()
    model = build_model(POCKET_CONFIG, "cpu")
    initialise(model, torch.Generator().manual_seed(SEED))
    model.tie_head()
    model.requires_grad_(True)
    model.set_precision(choose_dtype("auto", device))
    model.to(device)
    save(model, tokenizer, arguments.out)
    if arguments.epochs == 0:
        return

    _, novel_pieces = encode(novel_texts, tokenizer, "novels")
    _, review_pieces = encode(review_texts, tokenizer, "reviews")
    held_out = {
        "novels": encode(list(novels(arguments.corpus, "validation"))[::6], tokenizer, "novels"),
        "reviews": encode(list(reviews(SEED + 1, 60_000)), tokenizer, "reviews"),
    }
    config = TrainConfig(
        epochs=arguments.epochs,
        batch_size=20,
        tokens_per_pass=8192,
        learning_rate=arguments.learning_rate,
        min_learning_rate=arguments.learning_rate / 50,
        warmup=0.03,
        weight_decay=0.1,
        evaluate_every=250,
    )
    log = (arguments.out / "log.jsonl").open("w", encoding="utf-8")
    sizes = {"novels": novel_pieces, "reviews": review_pieces}
    tokens = {name: sum(len(p.ids) for p in pieces) for name, pieces in sizes.items()}
    print(json.dumps({"tokens": tokens, "config": config.model_dump()}), file=log, flush=True)
    seen = 0
    for step in train(model, novel_pieces + review_pieces, config, SEED):
        seen += step.num_tokens
        print(json.dumps(asdict(step)), file=log, flush=True)
        if step.number % (config.evaluate_every or 1) == 0:
            losses = {name: loss(evaluate(model, *split, 8192)) for name, split in held_out.items()}
            line = {"number": step.number, "tokens": seen, "validation": losses}
            print(json.dumps(line), file=log, flush=True)
            save(model, tokenizer, arguments.out)
    save(model, tokenizer, arguments.out)
    losses = {name: loss(evaluate(model, *split, 8192)) for name, split in held_out.items()}
    print(json.dumps({"tokens": seen, "validation": losses}), file=log, flush=True)


if __name__ == "__main__":
    main()
