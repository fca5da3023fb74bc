"""The embedded model is what its script says it is, and worth more than random weights."""

import importlib.util
import itertools
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny import batch_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import Tokenizer
from tunewise.evaluation.evaluate import evaluate
from tunewise.metrics.likelihood import LOSS
from tunewise.models.catalog import POCKET_CONFIG
from tunewise.models.folder import POCKET_FOLDER, build_model, load_model, read_config
from tunewise.models.language_model import LanguageModel, initialise
from tunewise.pocket.grammar import passages, split_reviews
from tunewise.pocket.grammar import reviews as labelled_reviews
from tunewise.tasks.language_modeling import LanguageModeling

ROOT = Path(__file__).resolve().parents[2]
PROSE = (
    "It was a bright morning, and she walked down to the house by the river. "
    "He did not know what to say to her, and for a long time neither of them spoke."
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(POCKET_FOLDER)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts" / "pretrain_pocket.py"
    spec = importlib.util.spec_from_file_location("pretrain_pocket", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loss_on(model: LanguageModel, tokenizer: Tokenizer, texts: list[str]) -> float:
    examples = [Example(str(number), "", text) for number, text in enumerate(texts)]
    encoded = LanguageModeling().encode(examples, tokenizer, Layout(POCKET_CONFIG.context_length))
    return LOSS.compute(evaluate(model, examples, encoded.sequences, 2048))


def test_the_files_are_those_of_the_known_shape() -> None:
    assert read_config(POCKET_FOLDER) == POCKET_CONFIG
    total, _ = build_model(POCKET_CONFIG).count_parameters()
    assert total < 8_000_000
    stored = {parameter.dtype for parameter in load_model(POCKET_FOLDER).parameters()}
    assert stored == {torch.bfloat16}


def test_transformers_reads_the_folder_and_agrees(tokenizer: Tokenizer) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(POCKET_FOLDER, dtype=torch.float32).eval()
    ids = tokenizer.tokenize([PROSE])[0]
    assert AutoTokenizer.from_pretrained(POCKET_FOLDER)(PROSE)["input_ids"] == ids
    model = load_model(POCKET_FOLDER).eval()
    model.set_precision(torch.float32)
    with torch.no_grad():
        ours = model.logits(model.hidden(batch_of(ids)))
        expected = theirs(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("texts", [[PROSE], list(itertools.islice(passages(5), 20))])
def test_pretraining_taught_prose_and_reviews(tokenizer: Tokenizer, texts: list[str]) -> None:
    random = build_model(POCKET_CONFIG, "cpu")
    initialise(random, torch.Generator().manual_seed(0))
    assert loss_on(load_model(POCKET_FOLDER), tokenizer, texts) < 0.6 * loss_on(
        random, tokenizer, texts
    )


def test_every_text_survives_the_tokenizer(tokenizer: Tokenizer) -> None:
    texts = [PROSE, "naïve 🙂\n\ttabs <|endoftext|>", *(r.text for r in split_reviews("test")[:50])]
    for text, ids in zip(texts, tokenizer.tokenize(texts), strict=True):
        assert tokenizer.decode(ids) == text
        assert tokenizer.end_of_text not in ids


def test_the_log_of_the_pretraining_holds_every_stage_whole() -> None:
    lines = (ROOT / "docs" / "pocket" / "log.jsonl").read_text("utf-8").splitlines()
    stages: list[list[dict[str, Any]]] = []
    for line in map(json.loads, lines):
        if "config" in line:
            stages.append([])
        stages[-1].append(line)
    assert [set(stage[0]["texts"]) for stage in stages] == [
        {"novels", "reviews"},
        {"novels", "rated reviews"},
        {"novels", "ratings"},
    ]
    for stage in stages:
        steps = [line for line in stage if "loss" in line]
        assert [step["number"] for step in steps] == list(range(1, len(steps) + 1))
        assert stage[-1]["tokens"] == sum(step["num_tokens"] for step in steps)
        assert set(stage[-1]["validation"]) == {"novels", "reviews"}


def test_punctuation_and_clitics_have_spaces_around_them_as_in_the_treebank(
    script: ModuleType,
) -> None:
    text = script.space_out("He said, \"It isn't John's.\"")
    assert text == "He said , `` It is n't John 's . ''"


def test_what_is_pretrained_on_holds_no_text_of_the_task(script: ModuleType) -> None:
    pages = [*script.reviews(script.SEED, 200_000), *script.rated_reviews(script.SEED, 200_000)]
    sentences = "\n".join(pages)
    assert "out of 10" in sentences
    assert not [review for review in split_reviews("test") if review.text in sentences]


def test_a_rating_tells_the_opinion_it_follows(script: ModuleType) -> None:
    labels = {review.text: review.label for review in itertools.islice(labelled_reviews(3), 300)}
    ratings: dict[str, set[int]] = {"negative": set(), "positive": set()}
    for paragraph in "\n\n".join(script.rated_reviews(3, 20_000)).split("\n\n"):
        opinions = [label for text, label in labels.items() if paragraph.startswith(f"{text} ")]
        rating = re.search(r"(\d+)(?:/| out of )10", paragraph)
        assert rating, paragraph
        for opinion in opinions:
            ratings[opinion].add(int(rating[1]))
    assert ratings == {"negative": {1, 2, 3, 4}, "positive": {7, 8, 9, 10}}


def test_only_the_rating_is_scored_in_the_third_stage(
    script: ModuleType, tokenizer: Tokenizer
) -> None:
    for sequence in script.reviews_to_rate(3, 20, tokenizer):
        scored = tokenizer.decode(sequence.ids[sequence.prompt_length :].tolist())
        assert re.fullmatch(r" ([1-4]|[7-9]|10)/10", scored)
