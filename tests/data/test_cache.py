"""The cache of token ids changes how long tokenizing takes, and nothing else."""

from pathlib import Path

import pytest

from tunewise.data import cache
from tunewise.data.cache import tokenize_cached
from tunewise.data.tokenizer import Tokenizer

TEXTS = ["a good film", "", "bad, bad, bad", "the film is not good at all"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a cache that keeps even the shortest texts."""
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "SMALLEST_CACHED", 0)
    return tmp_path / "tokens"


def ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [part.tolist() for part in tokenize_cached(tokenizer, texts)]


def forget_how_to_tokenize(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[list[int]]:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(tokenizer, "tokenize", refuse)


def test_a_second_call_reads_the_same_ids_without_tokenizing(
    tokenizer: Tokenizer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ids(tokenizer, TEXTS)
    assert first == tokenizer.tokenize(TEXTS)
    forget_how_to_tokenize(tokenizer, monkeypatch)
    assert ids(tokenizer, TEXTS) == first


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param([*TEXTS[:-1], "the film is good"], id="another text"),
        pytest.param(TEXTS[:-1], id="fewer texts"),
        pytest.param(TEXTS[::-1], id="another order"),
        pytest.param(["a good filmbad", "", ", bad, bad", TEXTS[3]], id="other bounds"),
    ],
)
def test_changed_texts_are_not_answered_with_the_old_ids(
    tokenizer: Tokenizer, folder: Path, changed: list[str]
) -> None:
    ids(tokenizer, TEXTS)
    assert ids(tokenizer, changed) == tokenizer.tokenize(changed)
    assert len(list(folder.iterdir())) == 2


def test_another_tokenizer_is_not_answered_with_the_first_ones_ids(
    tokenizer: Tokenizer, other_tokenizer: Tokenizer, folder: Path
) -> None:
    assert ids(tokenizer, TEXTS) != ids(other_tokenizer, TEXTS)
    assert ids(other_tokenizer, TEXTS) == other_tokenizer.tokenize(TEXTS)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["emptied", "truncated", "overwritten", "a folder"])
def test_a_damaged_cache_file_only_costs_time(
    tokenizer: Tokenizer, folder: Path, damage: str
) -> None:
    first = ids(tokenizer, TEXTS)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        new = {"emptied": b"", "truncated": content[:-7], "overwritten": b"\xff" * len(content)}
        file.write_bytes(new[damage])
    assert ids(tokenizer, TEXTS) == first


def test_a_repaired_cache_file_is_used_again(
    tokenizer: Tokenizer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ids(tokenizer, TEXTS)
    (file,) = folder.iterdir()
    file.write_bytes(b"")
    ids(tokenizer, TEXTS)
    forget_how_to_tokenize(tokenizer, monkeypatch)
    assert ids(tokenizer, TEXTS) == first


def test_a_cache_that_cannot_be_written_only_says_so(
    tokenizer: Tokenizer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = folder.parent / "not-a-folder"
    file.write_text("")
    monkeypatch.setenv("TUNEWISE_CACHE", str(file))
    assert ids(tokenizer, TEXTS) == tokenizer.tokenize(TEXTS)
    assert "not cached" in caplog.text


def test_nothing_unfinished_is_left_in_the_cache(tokenizer: Tokenizer, folder: Path) -> None:
    ids(tokenizer, TEXTS)
    assert [file.suffix for file in folder.iterdir()] == [".safetensors"]


def test_short_texts_are_not_kept_at_all(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    assert ids(tokenizer, TEXTS) == tokenizer.tokenize(TEXTS)
    assert list(tmp_path.iterdir()) == []
