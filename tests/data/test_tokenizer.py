"""A tokenizer is what its folder says, and a folder that says nothing sound is named."""

from pathlib import Path

import pytest

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ModelError

TEXTS = ["a good film", "", "naïve 🎬\n\ttabs", "<|endoftext|>"]


@pytest.mark.parametrize("without", [(), ("tokenizer.json",), ("tokenizer_config.json",)])
def test_a_saved_tokenizer_reads_texts_as_before(
    tokenizer: Tokenizer, tmp_path: Path, without: tuple[str, ...]
) -> None:
    tokenizer.save(tmp_path)
    for name in without:
        (tmp_path / name).unlink()
    loaded = Tokenizer.load(tmp_path)
    assert loaded.tokenize(TEXTS) == tokenizer.tokenize(TEXTS)
    assert (loaded.end_of_text, loaded.size) == (tokenizer.end_of_text, tokenizer.size)


def test_no_id_is_as_large_as_the_size(tokenizer: Tokenizer) -> None:
    ids = [i for text in tokenizer.tokenize(TEXTS) for i in text]
    assert max(ids) < tokenizer.size
    assert tokenizer.decode([tokenizer.size - 1])


def test_the_fingerprint_tells_tokenizers_apart(
    tokenizer: Tokenizer, other_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == tokenizer.fingerprint
    assert other_tokenizer.fingerprint != tokenizer.fingerprint


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json") as caught:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", "[1, 2", '{"model": {"type": "Spell"}}'])
def test_a_broken_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="tokenizer") as caught:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_an_end_of_text_token_that_is_not_in_the_vocabulary_is_named(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    with pytest.raises(ModelError, match="</s>"):
        Tokenizer.load(tmp_path)
