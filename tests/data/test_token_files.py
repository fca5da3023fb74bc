"""The small files beside a tokenizer are read, and are written again for transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import bpe_tokenizer
from transformers import AutoTokenizer, GPT2Tokenizer

from tunewise.data.example import MarkedText
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ModelError

SIZE = 280
TEXTS = ["a good film", "user: <|user|> a <tag> film", "x<tag>y", "<|endoftext|> <|user|>"]
MAP = {"additional_special_tokens": ["<|user|>"], "pad_token": "<pad>"}
DECODER = {
    str(SIZE): {"content": "<|user|>", "special": True, "normalized": False},
    str(SIZE + 1): {"content": "<tag>", "lstrip": True, "special": False},
    str(SIZE + 2): {"content": "<pad>", "special": True},
}
ADDED = {"<|user|>": SIZE, "<tag>": SIZE + 1, "<pad>": SIZE + 2}


@pytest.fixture
def old_folder(tmp_path: Path) -> Path:
    """A folder of an older tokenizer: vocab.json and merges.txt."""
    bpe_tokenizer(SIZE).save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    return tmp_path


def write(folder: Path, **files: Any) -> None:
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values), "utf-8")


@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens": ADDED, "special_tokens_map": MAP},
        {"added_tokens": ADDED, "tokenizer_config": MAP},
        {"tokenizer_config": {"added_tokens_decoder": DECODER} | MAP},
        {"added_tokens": {"<none>": 7}, "tokenizer_config": {"added_tokens_decoder": DECODER}},
        {"added_tokens": ADDED, "special_tokens_map": {"eos_token": {"content": "<|user|>"}}},
        {"tokenizer_config": {"add_prefix_space": True}},
    ],
    ids=str,
)
def test_tokens_that_were_added_have_the_ids_that_transformers_gives_them(
    files: Mapping[str, Any], old_folder: Path
) -> None:
    write(old_folder, **files)
    ours = Tokenizer.load(old_folder)
    theirs = GPT2Tokenizer.from_pretrained(old_folder)
    assert ours.size == len(theirs)
    assert ours.end_of_text == theirs.eos_token_id
    # Special tokens are transformers' to read in a text; ours reads them in a template alone.
    for text, ids in zip(TEXTS, ours.tokenize([MarkedText.literal(t) for t in TEXTS]), strict=True):
        assert ids == theirs(text)["input_ids"], text
    if files.get("special_tokens_map") != MAP:  # of which transformers 5 forgets the users' tokens
        for text, ids in zip(TEXTS, ours.tokenize(TEXTS), strict=True):
            assert ids == theirs(text, split_special_tokens=True)["input_ids"], text
    ours.save(old_folder / "again", max_length=77)  # and tokenizer.json has them
    again = AutoTokenizer.from_pretrained(old_folder / "again")
    for text in TEXTS:
        assert again(text)["input_ids"] == theirs(text)["input_ids"]
    assert again.model_max_length == 77


def test_tokens_that_tokenizer_json_lacks_are_added_to_it(tmp_path: Path) -> None:
    bpe_tokenizer(SIZE).save(tmp_path)
    write(tmp_path, added_tokens=ADDED, special_tokens_map=MAP)
    ours, theirs = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.size == SIZE + 3
    for text, ids in zip(TEXTS, ours.tokenize([MarkedText.literal(t) for t in TEXTS]), strict=True):
        assert ids == theirs(text)["input_ids"], text
    bpe_tokenizer(SIZE).save(tmp_path / "plain")
    assert ours.fingerprint != Tokenizer.load(tmp_path / "plain").fingerprint


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"added_tokens": {"<tag>": SIZE + 4}}, f"'<tag>' the id {SIZE + 4}.* would be {SIZE}"),
        ({"added_tokens": {"<tag>": "x"}}, r"added_tokens\.json"),
        ({"added_tokens": [3]}, r"added_tokens\.json: holds a list"),
        ({"tokenizer_config": {"added_tokens_decoder": {"x": {}}}}, r"tokenizer_config\.json"),
        ({"tokenizer_config": {"added_tokens_decoder": {"280": 7}}}, r"tokenizer_config\.json"),
        ({"tokenizer_config": {"eos_token": 7}}, "eos_token is 7; the text of a token"),
        ({"special_tokens_map": {"eos_token": {"id": 3}}}, r"special_tokens_map\.json: eos_token"),
        ({"special_tokens_map": {"additional_special_tokens": [{}]}}, "additional_special_tokens"),
        ({"special_tokens_map": {"additional_special_tokens": 5}}, "additional_special_tokens"),
    ],
    ids=str,
)
def test_a_token_with_another_id_or_none_is_refused(
    files: Mapping[str, Any], said: str, old_folder: Path
) -> None:
    write(old_folder, **files)
    with pytest.raises(ModelError, match=said):
        Tokenizer.load(old_folder)


def test_a_token_that_two_files_number_differently_is_the_vocabularys_as_in_transformers(
    old_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(old_folder, added_tokens={"a": 7000})
    ours, theirs = Tokenizer.load(old_folder), GPT2Tokenizer.from_pretrained(old_folder)
    assert ours.tokenize(["a film"]) == [theirs("a film")["input_ids"]]
    assert "gives 'a' the id 7000" in caplog.text


def test_special_tokens_that_the_vocabulary_lacks_are_named(
    old_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(old_folder, special_tokens_map=MAP)
    Tokenizer.load(old_folder)
    assert "'<pad>', '<|user|>'" in caplog.text and "ordinary characters" in caplog.text


@pytest.mark.parametrize("spaced", [True, False, None])
def test_a_space_before_a_text_is_as_the_configuration_says_and_not_tokenizer_json(
    spaced: bool | None, tmp_path: Path
) -> None:
    bpe_tokenizer(SIZE).save(tmp_path)
    fields = {} if spaced is None else {"add_prefix_space": spaced}
    write(tmp_path, tokenizer_config={"tokenizer_class": "GPT2Tokenizer"} | fields)
    ours, theirs = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.tokenize(["a film"]) == [theirs("a film")["input_ids"]]


# Which token ends a text.


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A folder whose tokenizer has special tokens, but not GPT-2's end of text."""
    bpe_tokenizer(SIZE).save(tmp_path)
    for path in (tmp_path / "tokenizer.json", tmp_path / "vocab.json"):
        path.write_text(path.read_text("utf-8").replace("<|endoftext|>", "</s>"), "utf-8")
    write(tmp_path, tokenizer_config={})
    return tmp_path


@pytest.mark.parametrize("without", ["nothing", "tokenizer.json"])
def test_a_missing_end_is_told_with_the_field_to_set_and_the_tokens_there_are(
    without: str, endless: Path
) -> None:
    (endless / without).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"no '<\|endoftext\|>'") as caught:
        Tokenizer.load(endless)
    message = str(caught.value)
    assert str(endless) in message
    assert "set eos_token in tokenizer_config.json" in message and "'</s>'" in message


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"eos_token": "</s>"}},
        {"special_tokens_map": {"eos_token": {"content": "</s>"}}},
        {"config": {"eos_token_id": 0}},
        {"generation_config": {"eos_token_id": [0]}},
    ],
    ids=str,
)
@pytest.mark.parametrize("without", ["nothing", "tokenizer.json"])
def test_the_end_is_what_any_file_names(
    files: Mapping[str, Any], without: str, endless: Path
) -> None:
    (endless / without).unlink(missing_ok=True)
    write(endless, **files)
    tokenizer = Tokenizer.load(endless)
    assert tokenizer.decode([tokenizer.end_of_text]) == "</s>"
    tokenizer.save(endless / "again", max_length=9)
    assert AutoTokenizer.from_pretrained(endless / "again").eos_token == "</s>"


def test_an_end_that_is_named_and_not_there_is_told_by_its_name(endless: Path) -> None:
    write(endless, special_tokens_map={"eos_token": "<eos>"})
    with pytest.raises(ModelError, match=r"'<eos>' by eos_token.*special ones are '</s>'"):
        Tokenizer.load(endless)


# Messages about a tokenizer that does not go with its model.


@pytest.mark.parametrize(
    ("config", "named", "expected"),
    [
        ({}, {}, {"bos": 0, "eos": 0, "pad": 0}),
        ({"bos_token_id": 5, "eos_token_id": [0, 7]}, {}, {"bos": 5, "eos": [0, 7], "pad": 0}),
        ({"pad_token_id": SIZE + 2}, {}, {"bos": 0, "eos": 0, "pad": SIZE + 2}),
        ({"pad_token_id": 0}, {"pad_token": "<pad>"}, {"bos": 0, "eos": 0, "pad": SIZE + 2}),
        # A pad token that a text may end with would be passed over there.
        ({"pad_token_id": 9}, {}, {"bos": 0, "eos": 0, "pad": 0}),
        ({}, {"pad_token": "a"}, {"bos": 0, "eos": 0, "pad": 0}),
        # An id that the vocabulary does not have is nobody's.
        ({"bos_token_id": 50256, "eos_token_id": -1}, {}, {"bos": 0, "eos": 0, "pad": 0}),
    ],
    ids=str,
)
def test_the_ids_of_special_tokens_are_those_of_the_folder(
    config: dict[str, Any], named: dict[str, str], expected: dict[str, Any], tmp_path: Path
) -> None:
    bpe_tokenizer(SIZE).save(tmp_path)
    write(tmp_path, config=config, tokenizer_config={"added_tokens_decoder": DECODER} | named)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.token_ids == {f"{name}_token_id": ids for name, ids in expected.items()}
    tokenizer.save(tmp_path / "again", max_length=20)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert theirs.pad_token_id == expected["pad"]


def test_what_the_base_says_of_writing_is_kept(old_folder: Path) -> None:
    told = {"do_sample": True, "temperature": 0.7, "eos_token_id": [0, 7], "bos_token_id": 0}
    write(old_folder, generation_config=told)
    Tokenizer.load(old_folder).save(old_folder / "again")
    assert json.loads((old_folder / "again" / "generation_config.json").read_text()) == told


@pytest.mark.parametrize(
    ("length", "expected"), [(512, 512), (1e30, None), (None, None), (0, None), ("long", None)]
)
def test_the_longest_text_is_the_tokenizers_own(
    length: Any, expected: int | None, old_folder: Path
) -> None:
    write(old_folder, tokenizer_config={"model_max_length": length})
    assert Tokenizer.load(old_folder).max_length == expected
