"""Tokenizer folders: ids are those of transformers, and damage is named."""

import shutil
from pathlib import Path

import pytest
import transformers
from tiny import bpe_tokenizer

from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer
from tunewise.errors import ModelError
from tunewise.models import ModelConfig

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "  two  spaces, a\ttab,\r\n and lines\n\n",
    "Ünïcödé, 日本語, 🎉👩‍👩‍👧, and 12345 can't be amiss; we've said so!",
    "",
    "\x00 \ufeff\u200b",
]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A byte-level tokenizer with a few merges."""
    return bpe_tokenizer(320, TEXTS * 3)


def test_transformers_reads_our_tokenizer(
    tokenizer: Tokenizer, folder: Path, config: ModelConfig
) -> None:
    tokenizer.save(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.eos_token_id == tokenizer.end_of_text
    for text, ids in zip(TEXTS, tokenizer.tokenize(TEXTS), strict=True):
        assert theirs(text)["input_ids"] == ids


def test_vocabulary_and_merges_give_the_ids_of_the_whole_file(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    whole = Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    parts = Tokenizer.load(tmp_path)
    assert parts.tokenize(TEXTS) == whole.tokenize(TEXTS) == tokenizer.tokenize(TEXTS)
    assert parts.end_of_text == whole.end_of_text == tokenizer.end_of_text
    assert parts.size == whole.size == tokenizer.size


def test_a_text_comes_back_from_its_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode(ids) for ids in tokenizer.tokenize(TEXTS)] == TEXTS


def test_a_text_cannot_end_a_text(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.tokenize([f"one{END_OF_TEXT}two"])
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == f"one{END_OF_TEXT}two"


@pytest.mark.real_data
def test_gpt2_ids_are_those_of_transformers(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "gpt2_bpe"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    shutil.copy(source / "encoder.json", tmp_path / "vocab.json")
    shutil.copy(source / "vocab.bpe", tmp_path / "merges.txt")
    ours = Tokenizer.load(tmp_path)
    theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    assert (ours.size, ours.end_of_text) == (50257, 50256)
    for text, ids in zip(TEXTS, ours.tokenize(TEXTS), strict=True):
        assert theirs(text)["input_ids"] == ids
        assert ours.decode(ids) == text
    assert ours.tokenize(["Hello world"]) == [[15496, 995]]  # as OpenAI's own encoder has it


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=tmp_path.name):
        Tokenizer.load(tmp_path)


def test_a_folder_without_tokenizer_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}", "utf-8")
    with pytest.raises(ModelError, match=r"no tokenizer\.json, and no vocab\.json with merges"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"eos_token": "<absent>"}', '{"eos_token": {"id": 3}}']
)
def test_a_tokenizer_without_an_end_of_text_is_refused(
    tokenizer: Tokenizer, text: str, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(text, "utf-8")
    with pytest.raises(ModelError):
        Tokenizer.load(tmp_path)
