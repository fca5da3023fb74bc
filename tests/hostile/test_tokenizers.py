"""A tokenizer that lies about its vocabulary is refused before it sees a text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunewise.config import RunConfig
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ModelError
from tunewise.predict import load
from tunewise.runs.model import adapted_model
from tunewise.settings import validate

Copy = Callable[[Path], Path]
MakeRun = Callable[[str], Path]


def change(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


def added(token_id: Any, content: Any = "<extra>") -> dict[str, Any]:
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    return {"id": token_id, "content": content, "special": True, **flags}


def with_an_id_beyond(values: dict[str, Any]) -> None:
    values["model"]["vocab"]["beyond"] = 999_999


def with_an_added_id_beyond(values: dict[str, Any]) -> None:
    values["added_tokens"].append(added(999_999))


@pytest.mark.parametrize("lie", [with_an_id_beyond, with_an_added_id_beyond])
def test_ids_that_the_model_does_not_have_are_refused(
    model_folder: Path, copy: Copy, lie: Callable[[dict[str, Any]], None]
) -> None:
    folder = copy(model_folder)
    change(folder, "tokenizer.json", lie)
    tokenizer = Tokenizer.load(folder)
    task = {"kind": "language_modeling"}
    config = validate(RunConfig, {"model": str(folder), "task": task}, "test")
    with pytest.raises(ModelError, match="the model's vocabulary ends at 256"):
        adapted_model(config, folder, tokenizer)


def test_they_are_refused_in_a_run_that_trained_everything_too(
    finished: MakeRun, copy: Copy
) -> None:
    folder = copy(finished("full"))
    change(folder / "model", "tokenizer.json", with_an_id_beyond)
    with pytest.raises(ModelError, match="the model's vocabulary ends at 256"):
        load(folder)


def without_an_end(values: dict[str, Any]) -> None:
    values["added_tokens"] = []
    del values["model"]["vocab"]["<|endoftext|>"]


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no end of text": without_an_end,
    "an empty vocabulary": lambda values: values["model"].update(vocab={}),
    "a negative id": lambda values: values["model"]["vocab"].update(a=-1),
    "an id past 32 bits": lambda values: values["model"]["vocab"].update(a=2**40),
    "an id that is a text": lambda values: values["model"]["vocab"].update(a="7"),
    "merges of tokens it lacks": lambda values: values["model"].update(merges=["qq zz"]),
    "merges that are none": lambda values: values["model"].update(merges=["a"]),
    "no model": lambda values: values.pop("model"),
    "a model of no kind": lambda values: values["model"].update(type="Sorcery"),
    "a pre-tokenizer of no kind": lambda values: values.update(pre_tokenizer={"type": "Exec"}),
    "a pattern that never ends": lambda values: values.update(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}
    ),
    "another version": lambda values: values.update(version="9.0"),
}


@pytest.mark.parametrize("what", LIES)
def test_a_tokenizer_that_is_none_is_refused(model_folder: Path, copy: Copy, what: str) -> None:
    folder = copy(model_folder)
    change(folder, "tokenizer.json", LIES[what])
    with pytest.raises(ModelError, match="tokenizer"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a":' * 10_000, "\ud800"])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_is_no_object_is_refused(
    model_folder: Path, copy: Copy, name: str, text: str
) -> None:
    folder = copy(model_folder)
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError, match="tokenizer"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("token", ["<|nowhere|>", 77, ["a"], {"content": "<|nowhere|>"}, {"id": 0}])
def test_an_end_of_text_that_is_no_token_is_refused(
    model_folder: Path, copy: Copy, token: Any
) -> None:
    folder = copy(model_folder)
    change(folder, "tokenizer_config.json", lambda values: values.update(eos_token=token))
    with pytest.raises(ModelError, match="tokenizer"):
        Tokenizer.load(folder)


def test_a_row_cannot_end_another_s_text(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.tokenize(["<|endoftext|>"])
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == "<|endoftext|>"
