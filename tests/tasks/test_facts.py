"""What the reports say of their data (facts.md), counted in the data."""

import string
from pathlib import Path

import pytest

from tunewise.config import make_config
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import Tokenizer

pytestmark = pytest.mark.real_data


def whole(example: Example) -> str:
    return example.prompt + example.cue + example.target


def lengths(name: str, shared_data: Path) -> list[int]:
    task = make_config(fields={"task": name}).task
    return [len(task.examples(split, shared_data)) for split in SPLITS]


def test_responses_of_alpaca_are_under_512_characters_and_100_are_asked_for(
    shared_data: Path,
) -> None:
    task = make_config(fields={"task": "alpaca"}).task
    assert task.samples == {"train": 12_000, "validation": 1_500, "test": 100}
    for split in SPLITS:
        examples = task.examples(split, shared_data)
        assert max(len(example.target.strip()) for example in examples) < 512
    assert len(examples) == 100


def test_imdb_is_split_12_000_to_3_000_and_enron_1_600_to_400(shared_data: Path) -> None:
    assert lengths("imdb", shared_data)[:2] == [12_000, 3_000]
    assert lengths("enron_spam", shared_data)[:2] == [1_600, 400]


def test_articles_are_read_in_lower_case_without_punctuation_and_asked_for_a_summary(
    shared_data: Path,
) -> None:
    task = make_config(fields={"task": "cnn_dailymail"}).task
    for example in task.examples("test", shared_data):
        for text in (example.prompt, example.target):
            assert text == text.lower()
            assert not set(text) & set(string.punctuation)
        assert example.cue == "\nTL;DR:"


def test_a_sonnet_is_completed_from_its_first_three_lines(shared_data: Path) -> None:
    task = make_config(fields={"task": "sonnets"}).task
    for split in SPLITS:
        texts = {row.id: row.text("text") for row in task.rows(split, shared_data)}
        for example in task.examples(split, shared_data):
            assert whole(example) == texts[example.id]
            assert example.prompt.count("\n") == 3
            assert example.prompt.endswith("\n")


def test_a_cut_premise_leaves_the_whole_hypothesis(shared_data: Path, tokenizer: Tokenizer) -> None:
    task = make_config(fields={"task": "healthver"}).task
    examples = task.examples("test", shared_data)
    sequences = task.encode(examples, tokenizer, Layout(256)).sequences
    cut = 0
    for example, sequence in zip(examples, sequences, strict=True):
        if len(whole(example)) > 256 and len(example.cue.encode()) < 256:
            assert tokenizer.decode(sequence.ids.tolist()).endswith(example.cue)
            cut += 1
    assert cut  # else this would show nothing
