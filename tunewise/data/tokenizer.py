"""Tokenizers: text to token ids and back, by Hugging Face `tokenizers`."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tunewise.data.example import MarkedText
from tunewise.data.special_tokens import SpecialTokens
from tunewise.errors import ModelError
from tunewise.json_text import to_json

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token: it ends a text, and opens the next."""
CONFIG = "tokenizer_config.json"
KEPT_FILES = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
"""Files that are not read here, but that other libraries need beside a tokenizer."""


class Tokenizer:
    """A tokenizer of the `tokenizers` library, and the ids that begin and end a text.

    The name of a special token in a row is read as ordinary characters, so that no row of data can
    end a text early or imitate a turn of the user. A template may write them: see `MarkedText`.

    Args:
        backend: the library's tokenizer.
        end_of_text: the token that is written after a text.
        ends: further ids that end a text when a model writes it.
        files: texts of files that `save` writes again as they are.

    Raises:
        ModelError: if the end-of-text token is not in the vocabulary.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        end_of_text: str = END_OF_TEXT,
        ends: Collection[int] = (),
        files: Mapping[str, str] | None = None,
    ) -> None:
        token_id = backend.token_to_id(end_of_text)
        if token_id is None:
            raise ModelError(f"the tokenizer has no token {end_of_text!r} to end a text with")
        backend.encode_special_tokens = True
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self._end_of_text_token = end_of_text
        self._files = dict(files or {})
        self.end_of_text: int = token_id
        self.ends: frozenset[int] = frozenset({token_id, *(i for i in ends if 0 <= i < self.size)})
        encoding = backend.encode("a")
        is_added = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        self.begin: tuple[int, ...] = tuple(i for i, _ in takewhile(lambda pair: pair[1], is_added))

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Return the tokenizer of a model folder: tokenizer.json, or vocab.json and merges.txt.

        Raises:
            ModelError: if there is none, or it is broken.
        """
        whole = folder / "tokenizer.json"
        vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
        try:
            if whole.is_file():
                backend = tokenizers.Tokenizer.from_file(str(whole))
            elif vocabulary.is_file() and merges.is_file():
                backend = byte_level(models.BPE.from_file(str(vocabulary), str(merges)))
                backend.add_special_tokens([END_OF_TEXT])
            else:
                raise ModelError(f"{folder}: no tokenizer.json, and no vocab.json with merges.txt")
            end_of_text, ends = _end_of_text(folder), _ends(folder)
            tokenizer = cls(backend, end_of_text, ends, _files(folder))
        except ModelError:
            raise
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{folder}: the tokenizer cannot be read: {error}") from error
        if not tokenizer.tokenize(["a"])[0]:
            raise ModelError(f"{folder}: the tokenizer has no token for 'a': texts would be lost")
        return tokenizer

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, and the files that were beside it when it was loaded."""
        folder.mkdir(parents=True, exist_ok=True)
        self._backend.save(str(folder / "tokenizer.json"))
        self._backend.model.save(str(folder))
        token = self._end_of_text_token
        files = {CONFIG: _as_json(_gpt2_config(token))} | self._files
        if len(self.ends) > 1:
            files["generation_config.json"] = _as_json({"eos_token_id": sorted(self.ends)})
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids before the first token of a text, from which that token can be predicted.

        They are `begin`. In GPT-2's training no token begins a text: there it is the end of
        the text before.
        """
        return self.begin or (self.end_of_text,)

    def tokenize(self, texts: Sequence[str | MarkedText]) -> list[list[int]]:
        """Return the ids of each text, with no special token but those that a template names."""
        parts = [self.split(text) for text in texts]
        ordinary = [part for text in parts for part in text if isinstance(part, str)]
        encodings = iter(self._backend.encode_batch_fast(ordinary, add_special_tokens=False))
        ids: list[list[int]] = []
        for text in parts:
            ids.append([])
            for part in text:
                ids[-1] += next(encodings).ids if isinstance(part, str) else [part]
        return ids

    def split(self, text: str | MarkedText) -> list[str | int]:
        """Return a text in parts: ids of special tokens in its literals, and the text between."""
        return [text] if isinstance(text, str) else self._special_tokens.split(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids."""
        return self._backend.decode(list(ids), skip_special_tokens=False)

    @cached_property
    def size(self) -> int:
        """Number of ids: one more than the largest."""
        return max(self._backend.get_vocab().values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides how a text is tokenized."""
        return hashlib.sha256(self._backend.to_str().encode("utf-8")).hexdigest()

    @cached_property
    def _special_tokens(self) -> SpecialTokens:
        return SpecialTokens(self._backend.get_added_tokens_decoder())


def byte_level(model: models.Model) -> tokenizers.Tokenizer:
    """Return a tokenizer that works on bytes as GPT-2's does, around a vocabulary."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _gpt2_config(end_of_text: str) -> dict[str, Any]:
    """Return the content of tokenizer_config.json for a tokenizer like GPT-2's."""
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), end_of_text)
    return {"tokenizer_class": "GPT2Tokenizer", **special, "add_prefix_space": False}


def _end_of_text(folder: Path) -> str:
    """Return the token that tokenizer_config.json names as the end, or GPT-2's."""
    token = _read_json(folder / CONFIG).get("eos_token") or END_OF_TEXT
    return str(token["content"] if isinstance(token, dict) else token)


def _ends(folder: Path) -> list[int]:
    """Return the ids that a model folder names as ends: `eos_token_id` is one, or a list."""
    ends: list[int] = []
    for name in ("config.json", "generation_config.json"):
        value = _read_json(folder / name).get("eos_token_id")
        if value is None:
            continue
        ids = value if isinstance(value, list) else [value]
        if not all(type(token) is int for token in ids):
            raise ModelError(f"{folder / name}: eos_token_id is {value!r}; ids are needed")
        ends += ids
    return ends


def _files(folder: Path) -> dict[str, str]:
    """Return the texts of the files that are to be written again where a tokenizer is saved."""
    files = {
        name: (folder / name).read_text("utf-8") for name in KEPT_FILES if (folder / name).is_file()
    }
    config = _read_json(folder / CONFIG)
    if "tokenizer_class" in config:
        files[CONFIG] = (folder / CONFIG).read_text("utf-8")
    elif config:  # GPT-2's own holds only the context length
        files[CONFIG] = _as_json(_gpt2_config(_end_of_text(folder)) | config)
    return files


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; nothing if there is no file.

    Raises:
        ModelError: if it holds anything else.
    """
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}; a JSON object is needed")
    return values


def _as_json(values: Mapping[str, Any]) -> str:
    return to_json(values, indent=2) + "\n"
