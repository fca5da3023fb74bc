"""A tokenizer is what its folder says, and a folder that says nothing sound is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tunewise.data.tokenizer import CONFIG, Tokenizer
from tunewise.errors import ModelError
from tunewise.models.folder import POCKET_FOLDER

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
    with pytest.raises(ModelError, match=r"no tokenizer\.json.*save_pretrained") as caught:
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


# What was read is kept.


def test_the_embedded_tokenizer_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    Tokenizer.load(POCKET_FOLDER).save(tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (POCKET_FOLDER / file.name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


def write(folder: Path, name: str, values: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(values), "utf-8")


def test_what_others_read_beside_a_tokenizer_is_kept(tokenizer: Tokenizer, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    tokenizer.save(first)
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "bos_token": None,
        "model_max_length": 77,
        "additional_special_tokens": ["good"],
    }
    write(first, CONFIG, config)
    (first / "chat_template.jinja").write_text(template)
    Tokenizer.load(first).save(second)
    assert (second / CONFIG).read_text() == (first / CONFIG).read_text()
    theirs = AutoTokenizer.from_pretrained(second)
    assert (theirs.model_max_length, theirs.chat_template) == (77, template)
    assert (theirs.bos_token, theirs.pad_token) == (None, None)
    assert theirs.eos_token_id == tokenizer.end_of_text


def test_gpt2_whose_files_name_no_class_gets_one_and_keeps_its_context(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "first")
    write(tmp_path / "first", CONFIG, {"model_max_length": 1024})
    Tokenizer.load(tmp_path / "first").save(tmp_path / "second")
    config = json.loads((tmp_path / "second" / CONFIG).read_text())
    assert config["tokenizer_class"] == "GPT2Tokenizer"
    assert config["eos_token"] == "<|endoftext|>"
    assert config["model_max_length"] == 1024


# Which ids end a text.


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        (None, None, set()),
        (0, None, set()),
        (None, [0, 7], {7}),
        ([0, 5], 7, {5, 7}),
        (50256, [9, 10**12], {9}),  # an id that the tokenizer does not have ends nothing
    ],
)
def test_a_text_ends_with_any_id_that_the_folder_names(
    tokenizer: Tokenizer, tmp_path: Path, config: Any, generation: Any, ends: set[int]
) -> None:
    tokenizer.save(tmp_path)
    write(tmp_path, "config.json", {"eos_token_id": config})
    if generation is not None:
        write(tmp_path, "generation_config.json", {"eos_token_id": generation})
    loaded = Tokenizer.load(tmp_path)
    assert loaded.ends == {tokenizer.end_of_text} | ends
    loaded.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").ends == loaded.ends
    assert (tmp_path / "again" / "generation_config.json").exists() == bool(ends)


@pytest.mark.parametrize("eos", ["</s>", [1.5], {"id": 3}, True])
def test_ends_that_are_no_ids_are_refused(tokenizer: Tokenizer, tmp_path: Path, eos: Any) -> None:
    tokenizer.save(tmp_path)
    write(tmp_path, "generation_config.json", {"eos_token_id": eos})
    with pytest.raises(ModelError, match=r"generation_config\.json: eos_token_id"):
        Tokenizer.load(tmp_path)
