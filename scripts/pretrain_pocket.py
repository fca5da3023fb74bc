"""Pretrain the embedded model on public-domain novels and on the grammar's reviews.

    python scripts/pretrain_pocket.py --corpus ../shared/data/corpus --out build/pocket

writes a model folder in Hugging Face layout, and `log.jsonl` with a line for each update and each
evaluation. There are three stages:

1. the novels and unlabelled reviews, each once;
2. short reviews that end with a rating, and some of the novels again;
3. short reviews of which only the rating is predicted, and a few pieces of the novels.

Stages two and three have half the learning rate of stage one.

Some of the texts have spaces around punctuation and clitics, as many public data sets have:
`it is n't good .` No stage holds a text of the `pocket_reviews` task.

`--random` writes a randomly initialised model of the same shape, which shows by comparison what
pretraining is worth.
"""

import argparse
import itertools
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import models, pre_tokenizers, trainers

from tunewise.data.cache import tokenize_cached
from tunewise.data.encode import Encoded
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.rows import SPLITS, Split
from tunewise.data.splits import read_split
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer, byte_level
from tunewise.device import choose_device, choose_dtype
from tunewise.evaluation.evaluate import evaluate
from tunewise.metrics.likelihood import LOSS
from tunewise.models.catalog import POCKET_CONFIG
from tunewise.models.folder import build_model, load_model, save_model
from tunewise.models.language_model import LanguageModel, initialise
from tunewise.pocket.grammar import Review, passages, split_reviews
from tunewise.pocket.grammar import reviews as labelled_reviews
from tunewise.tasks.language_modeling import LanguageModeling
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train

REVIEW_CHARACTERS = 16_000_000
"""Length of the unlabelled reviews in stage one; the novels have 34 million characters."""
PAGE = 12
"""Reviews in one text."""
SPACED_NOVELS, SPACED_REVIEWS = 0.25, 0.5
"""Shares of the texts that have spaces around punctuation and clitics."""
RATED_CHARACTERS = 8_000_000
"""Length of the short reviews with a rating in stage two, in characters."""
SECOND_NOVELS = 0.15
"""Share of the novels that is read again in stages two and three."""
SEVERAL_REVIEWS = 0.4
"""Probability that another review of the same opinion comes before the rating."""
NUM_RATINGS = 80_000
"""Number of reviews in stage three."""
RATINGS = (
    "{}/10",
    "{}/10.",
    "Rating: {}/10.",
    "I give it {} out of 10.",
    "My score: {} out of 10.",
)
SEED = 11
LONG_SHARE = 0.15
"""Share of the texts cut into pieces as long as the context. The others are cut into pieces half as
long, which is faster."""


def space_out(text: str) -> str:
    """Return the text with spaces around punctuation and clitics, as in the Penn Treebank."""
    text = re.sub(r"[\"“](?=\w)", " `` ", text)
    text = re.sub(r"[\"”]", " '' ", text)
    text = re.sub(r"n't\b", " n't", text)
    text = re.sub(r"'(s|re|ve|ll|d|m)\b", r" '\1", text)
    text = re.sub(r"([.,;:!?()])(?=\s|$|['\")])", r" \1 ", text)
    return re.sub(r" +", " ", text).strip()


def novels(corpus: Path, split: Split) -> Iterator[str]:
    """Yield whole paragraphs of each book, about 8,000 characters at a time."""
    chance = random.Random(SEED)
    for row in read_split(corpus, split):
        piece: list[str] = []
        for paragraph in row.text("text").split("\n\n"):
            piece.append(paragraph)
            if sum(map(len, piece)) > 8000:
                text = "\n\n".join(piece)
                yield space_out(text) if chance.random() < SPACED_NOVELS else text
                piece = []


def reviews(seed: int, characters: int) -> Iterator[str]:
    """Yield texts of PAGE generated reviews each, about `characters` in all."""
    chance, stream, total = random.Random(seed), passages(seed), 0
    while total < characters:
        text = "\n\n".join(itertools.islice(stream, PAGE))
        total += len(text)
        yield space_out(text) if chance.random() < SPACED_REVIEWS else text


def fresh_reviews(seed: int) -> Iterator[Review]:
    """Yield short reviews that are not among the texts of the `pocket_reviews` task."""
    of_the_task = {review.text for split in SPLITS for review in split_reviews(split)}
    return (review for review in labelled_reviews(seed) if review.text not in of_the_task)


def rating(review: Review, chance: random.Random) -> int:
    """Return a rating: 1 to 4 for a negative review, 7 to 10 for a positive one."""
    return chance.randrange(1, 5) + (6 if review.label == "positive" else 0)


def reviews_to_rate(seed: int, count: int, tokenizer: Tokenizer) -> list[Encoded]:
    """Return reviews followed by a rating, in which only the tokens of the rating are scored.

    The rating is one of very many tokens of a text and would hardly be learned beside the others.
    """
    chance = random.Random(seed)
    drawn = list(itertools.islice(fresh_reviews(seed), count))
    texts = [space_out(r.text) if chance.random() < SPACED_REVIEWS else r.text for r in drawn]
    prompts = tokenize_cached(tokenizer, [f"{text} Rating:" for text in texts])
    answers = tokenize_cached(tokenizer, [f" {rating(review, chance)}/10" for review in drawn])
    start = [tokenizer.end_of_text]
    return [
        Encoded("ratings", np.concatenate([start, prompt, answer]), 1 + len(prompt))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def rated_reviews(seed: int, characters: int) -> Iterator[str]:
    """Yield texts of PAGE ratings out of ten each, each after one or more reviews of one opinion.

    To predict the rating, a model must understand the reviews. None of them is a text of the
    `pocket_reviews` task.
    """
    chance, total = random.Random(seed), 0
    waiting: dict[str, list[str]] = {"negative": [], "positive": []}
    page: list[str] = []
    for review in fresh_reviews(seed):
        same_opinion = waiting[review.label]
        same_opinion.append(review.text)
        if chance.random() < SEVERAL_REVIEWS and len(same_opinion) < 6:
            continue
        form = chance.choice(RATINGS)
        page.append(f"{' '.join(same_opinion)} {form.format(rating(review, chance))}")
        same_opinion.clear()
        if len(page) == PAGE:
            text = "\n\n".join(page)
            page, total = [], total + len(text)
            yield space_out(text) if chance.random() < SPACED_REVIEWS else text
            if total >= characters:
                return


def train_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Return a byte-level BPE with `size` entries, trained on the texts."""
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
    """Return the texts as examples, and cut into pieces; see LONG_SHARE."""
    task = LanguageModeling(name=name)
    examples = [Example(f"{name}:{number}", "", text) for number, text in enumerate(texts)]
    num_long = round(LONG_SHARE * len(examples))
    context = POCKET_CONFIG.context_length
    long = task.encode(examples[:num_long], tokenizer, Layout(context)).sequences
    short = task.encode(examples[num_long:], tokenizer, Layout(context // 2)).sequences
    return examples, long + short


def save(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model in bf16, the precision that it is trained in and half the size of fp32."""
    masters = {name: p.data for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    save_model(model, folder, tokenizer.end_of_text)
    for name, parameter in model.named_parameters():
        parameter.data = masters[name]
    tokenizer.save(folder)


def pretrain(
    model: LanguageModel,
    tokenizer: Tokenizer,
    pieces: dict[str, list[Encoded]],
    held_out: dict[str, tuple[list[Example], list[Encoded]]],
    learning_rate: float,
    out: Path,
    batch_size: int = 20,
) -> None:
    """Train on all pieces once, in a seeded order; write the model and the log into `out`."""
    config = TrainConfig(
        epochs=1,
        batch_size=batch_size,
        tokens_per_pass=8192,
        learning_rate=learning_rate,
        min_learning_rate=learning_rate / 50,
        warmup=0.03,
        weight_decay=0.1,
        evaluate_every=250,
    )
    tokens = {name: sum(len(piece.ids) for piece in group) for name, group in pieces.items()}
    seen = 0
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:

        def write(line: dict[str, Any]) -> None:
            print(json.dumps(line), file=log, flush=True)

        def evaluate_and_save() -> None:
            losses = {
                name: LOSS.compute(evaluate(model, *split, 8192))
                for name, split in held_out.items()
            }
            write({"tokens": seen, "validation": losses})
            save(model, tokenizer, out)

        write({"texts": tokens, "config": config.model_dump()})
        for step in train(model, list(itertools.chain(*pieces.values())), config, SEED):
            seen += step.num_tokens
            write(asdict(step))
            if step.number % 250 == 0:
                evaluate_and_save()
        evaluate_and_save()


def main() -> None:
    """Pretrain in three stages, or from a later one on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of train_*.txt.gz books")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--start", type=Path, help="model folder to continue from")
    parser.add_argument("--first-stage", type=int, default=1, choices=(1, 2, 3), help="default: 1")
    parser.add_argument("--random", action="store_true", help="only write the random model")
    arguments = parser.parse_args()

    chance = random.Random(SEED)
    novel_texts = list(novels(arguments.corpus, "train"))
    review_texts = list(reviews(SEED, REVIEW_CHARACTERS))
    chance.shuffle(novel_texts)
    if arguments.start:
        tokenizer = Tokenizer.load(arguments.start)
        model = load_model(arguments.start)
    else:
        sample = [*novel_texts, *review_texts[: len(review_texts) // 4]]
        tokenizer = train_tokenizer(sample, POCKET_CONFIG.vocabulary_size)
        model = build_model(POCKET_CONFIG, "cpu")
        initialise(model, torch.Generator().manual_seed(SEED))
    device = choose_device()
    model.requires_grad_(True)
    model.set_precision(choose_dtype("auto", device))
    model.to(device)
    save(model, tokenizer, arguments.out)
    if arguments.random:
        return

    held_out = {
        "novels": encode(list(novels(arguments.corpus, "validation"))[::6], tokenizer, "novels"),
        "reviews": encode(list(reviews(SEED + 1, 60_000)), tokenizer, "reviews"),
    }
    stage = partial(pretrain, model, tokenizer, held_out=held_out, out=arguments.out)
    if arguments.first_stage <= 1:
        _, novel_pieces = encode(novel_texts, tokenizer, "novels")
        _, review_pieces = encode(review_texts, tokenizer, "reviews")
        stage({"novels": novel_pieces, "reviews": review_pieces}, learning_rate=2e-3)
    second_novels = novel_texts[: round(SECOND_NOVELS * len(novel_texts))]
    if arguments.first_stage <= 2:
        _, novel_pieces = encode(second_novels, tokenizer, "novels")
        rated = list(rated_reviews(SEED + 2, RATED_CHARACTERS))
        _, rated_pieces = encode(rated, tokenizer, "rated reviews")
        stage({"novels": novel_pieces, "rated reviews": rated_pieces}, learning_rate=1e-3)
    ratings = reviews_to_rate(SEED + 3, NUM_RATINGS, tokenizer)
    _, novel_pieces = encode(second_novels, tokenizer, "novels")
    stage({"novels": novel_pieces[::12], "ratings": ratings}, learning_rate=1e-3, batch_size=64)


if __name__ == "__main__":
    main()
