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
from tunewise.data.token_files import (
    ADDED,
    CONFIG,
    END_OF_TEXT,
    GENERATION,
    NAMES,
    add_tokens,
    end_of_text,
    eos_ids,
    max_length,
    named_tokens,
    read_json,
    tell_of_unknown,
)
from tunewise.errors import ModelError
from tunewise.json_text import to_json

KEPT_FILES = (NAMES, ADDED, GENERATION, "chat_template.jinja")
"""Files that are written again as they were: other libraries need them beside a tokenizer."""


class Tokenizer:
    """A tokenizer of the `tokenizers` library, and the ids that begin and end a text.

    The name of a special token in a row is read as ordinary characters, so that no row of data can
    end a text early or imitate a turn of the user. A template may write them: see `MarkedText`.

    Args:
        backend: the library's tokenizer.
        end_of_text: the token that is written after a text.
        ends: further ids that end a text when a model writes it.
        files: texts of files that `save` writes again as they are.
        token_ids: fields of config.json with the ids of special tokens, as the folder has them.
        max_length: the longest text, in tokens, that the tokenizer is meant for.

    Raises:
        ModelError: if the end-of-text token is not in the vocabulary.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        end_of_text: str = END_OF_TEXT,
        ends: Collection[int] = (),
        files: Mapping[str, str] | None = None,
        token_ids: Mapping[str, Any] | None = None,
        max_length: int | None = None,
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
        self._token_ids = dict(token_ids or {})
        self.max_length = max_length
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
            named = named_tokens(folder)
            if whole.is_file():
                backend = tokenizers.Tokenizer.from_file(str(whole))
                _set_prefix_space(backend, folder)
                add_tokens(backend, folder, named.values())
            elif vocabulary.is_file() and merges.is_file():
                spaced = bool(read_json(folder / CONFIG).get("add_prefix_space"))
                backend = byte_level(models.BPE.from_file(str(vocabulary), str(merges)), spaced)
                add_tokens(backend, folder, named.values())
                # In such a folder, nothing but their names says that these are special.
                special = (*named.values(), END_OF_TEXT)
                backend.add_special_tokens(
                    [t for t in special if backend.token_to_id(t) is not None]
                )
            else:
                raise ModelError(
                    f"{folder}: no tokenizer.json, and no vocab.json with merges.txt: save the "
                    "tokenizer of its base model there (in transformers: "
                    "AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER))"
                )
            tell_of_unknown(backend, folder, named)
            end = end_of_text(backend, folder, named)
            tokenizer = cls(
                backend,
                end,
                eos_ids(folder),
                _files(folder, end),
                _token_ids(folder, backend, named),
                max_length(folder),
            )
        except ModelError:
            raise
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{folder}: the tokenizer cannot be read: {error}") from error
        if not tokenizer.tokenize(["a"])[0]:
            raise ModelError(f"{folder}: the tokenizer has no token for 'a': texts would be lost")
        return tokenizer

    def save(self, folder: Path, max_length: int | None = None) -> None:
        """Write the tokenizer's files, and the files that were beside it when it was loaded.

        Args:
            max_length: the longest text, in tokens, that the model beside it reads.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._backend.save(str(folder / "tokenizer.json"))
        self._backend.model.save(str(folder))
        files = {CONFIG: _as_json(_gpt2_config(self._end_of_text_token))} | self._files
        if max_length is not None:
            pad = self._backend.id_to_token(self.token_ids["pad_token_id"])
            more = {"model_max_length": max_length, "pad_token": pad}
            files[CONFIG] = _as_json(json.loads(files[CONFIG]) | more)
        if len(self.ends) > 1:
            generation = json.loads(files.get(GENERATION, "{}"))
            files[GENERATION] = _as_json(generation | {"eos_token_id": sorted(self.ends)})
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")

    @cached_property
    def token_ids(self) -> dict[str, Any]:
        """The ids of the special tokens as fields of config.json, for a model beside it.

        A pad token is one that no text has, since a classifier of transformers passes over it.
        """
        end = self.end_of_text
        known = {field: ids for field, ids in self._token_ids.items() if self._has(ids)}
        if known.get("pad_token_id") not in {*self._special_tokens.ids, end}:
            known["pad_token_id"] = end
        return {"bos_token_id": end, "eos_token_id": end} | known

    def _has(self, ids: Any) -> bool:
        """Return whether a value is an id of the vocabulary, or a list of some."""
        some = ids if isinstance(ids, list) and ids else [ids]
        return all(type(token) is int and 0 <= token < self.size for token in some)

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


def byte_level(model: models.Model, add_prefix_space: bool = False) -> tokenizers.Tokenizer:
    """Return a tokenizer that works on bytes as GPT-2's does, around a vocabulary."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def _set_prefix_space(backend: tokenizers.Tokenizer, folder: Path) -> None:
    """Let a text begin with a space or not as tokenizer_config.json says, as transformers does."""
    spaced = read_json(folder / CONFIG).get("add_prefix_space")
    parts = backend.pre_tokenizer
    if isinstance(spaced, bool) and isinstance(parts, pre_tokenizers.ByteLevel):
        parts.add_prefix_space = spaced


def _gpt2_config(end_of_text: str) -> dict[str, Any]:
    """Return the content of tokenizer_config.json for a tokenizer like GPT-2's."""
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), end_of_text)
    return {"tokenizer_class": "GPT2Tokenizer", **special, "add_prefix_space": False}


def _token_ids(
    folder: Path, backend: tokenizers.Tokenizer, named: Mapping[str, str]
) -> dict[str, Any]:
    """Return the ids of special tokens as fields of config.json: those that a folder gives."""
    config = read_json(folder / "config.json")
    ids = {name: config.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if "pad_token" in named:  # the name decides, since the tokenizer pads
        ids["pad_token_id"] = backend.token_to_id(named["pad_token"])
    return {name: value for name, value in ids.items() if value is not None}


def _files(folder: Path, end_of_text: str) -> dict[str, str]:
    """Return the texts of the files that are to be written again where a tokenizer is saved."""
    files = {
        name: (folder / name).read_text("utf-8") for name in KEPT_FILES if (folder / name).is_file()
    }
    config = read_json(folder / CONFIG)
    if "tokenizer_class" in config:
        files[CONFIG] = (folder / CONFIG).read_text("utf-8")
    elif config:  # GPT-2's own holds only the context length
        files[CONFIG] = _as_json(_gpt2_config(end_of_text) | config)
    return files


def _as_json(values: Mapping[str, Any]) -> str:
    return to_json(values, indent=2) + "\n"
