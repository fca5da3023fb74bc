"""The JSON files beside a tokenizer: which tokens they name and add, and which ids end a text."""

import json
import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from tunewise.errors import ModelError

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token: it ends a text, and opens the next."""
CONFIG = "tokenizer_config.json"
NAMES = "special_tokens_map.json"
ADDED = "added_tokens.json"
GENERATION = "generation_config.json"
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
"""Fields that name a special token."""
MORE_SPECIAL = ("additional_special_tokens", "extra_special_tokens")
"""Fields that name several."""
NO_LIMIT = 10**9
"""A length from which on `model_max_length` means none: transformers writes 10^30."""
MAX_NAMED = 10
"""Most tokens that a message names."""


def named_tokens(folder: Path) -> dict[str, str]:
    """Return the special tokens that the files of a folder name, by the field that does.

    Raises:
        ModelError: if a file is broken.
    """
    named: dict[str, str] = {}
    for name in (CONFIG, NAMES):
        values = read_json(folder / name)
        for field in SPECIAL:
            if values.get(field):
                named[field] = _content(values[field], folder / name, field)
        for field in MORE_SPECIAL:
            tokens = values.get(field) or []
            tokens = list(tokens.values()) if isinstance(tokens, dict) else tokens
            for number, token in enumerate(tokens if isinstance(tokens, list) else [tokens]):
                named[f"{field}[{number}]"] = _content(token, folder / name, field)
        if "added_tokens_decoder" in values:  # then the older file is not looked at
            break
    return named


def _content(token: Any, path: Path, field: str) -> str:
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str) or not content:
        raise ModelError(f"{path}: {field} is {token!r}; the text of a token is needed")
    return content


def add_tokens(backend: tokenizers.Tokenizer, folder: Path, named: Collection[str]) -> None:
    """Add the tokens that the files of a folder add to a vocabulary, each with the id it has there.

    They are in tokenizer_config.json, or in added_tokens.json in folders of older tokenizers.

    Args:
        named: the special tokens that the folder names.

    Raises:
        ModelError: if a file is broken, or a token would have another id than the file says.
    """
    source, tokens = _added_tokens(folder, named)
    for token_id, token in sorted(tokens.items()):
        known = backend.token_to_id(token.content)
        if known is None:
            add = backend.add_special_tokens if token.special else backend.add_tokens
            add([token])
            if (found := backend.token_to_id(token.content)) != token_id:
                raise ModelError(
                    f"{source}: gives {token.content!r} the id {token_id}; after the tokens of the "
                    f"vocabulary it would be {found}"
                )
        elif known != token_id:  # transformers does the same
            logger.warning(
                "%s: gives %r the id %d; the vocabulary has it as %d, which is used",
                source,
                token.content,
                token_id,
                known,
            )


def _added_tokens(folder: Path, named: Collection[str]) -> tuple[Path, dict[int, AddedToken]]:
    """Return the tokens that a folder adds, by id, and the file that does."""
    source, values = folder / CONFIG, read_json(folder / CONFIG)
    try:
        if "added_tokens_decoder" in values:
            added = values["added_tokens_decoder"]
            fields = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
            return source, {
                int(token_id): AddedToken(**{f: token[f] for f in fields if f in token})
                for token_id, token in added.items()
            }
        source = folder / ADDED
        return source, {
            token_id: AddedToken(token, special=token in named, normalized=token not in named)
            for token, token_id in read_json(source).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{source}: the added tokens cannot be read: {error}") from error


def end_of_text(backend: tokenizers.Tokenizer, folder: Path, named: Mapping[str, str]) -> str:
    """Return the token that ends a text: the folder names it, or it is GPT-2's.

    Raises:
        ModelError: if there is none.
    """
    end = named.get("eos_token", END_OF_TEXT)
    if backend.token_to_id(end) is not None:
        return end
    if "eos_token" not in named:
        ids = eos_ids(folder)
        token = backend.id_to_token(ids[0]) if ids and 0 <= ids[0] < 2**32 else None
        if token is not None:
            return token
        problem = f"no file names the token that ends a text, and there is no {END_OF_TEXT!r}"
    else:
        problem = f"the token that ends a text is {end!r} by eos_token, and there is none"
    raise ModelError(
        f"{folder}: {problem}; set eos_token in {CONFIG} to a token of the vocabulary"
        f"{_candidates(backend)}"
    )


def tell_of_unknown(backend: tokenizers.Tokenizer, folder: Path, named: Mapping[str, str]) -> None:
    """Warn of special tokens that a folder names and its vocabulary lacks."""
    tokens = dict.fromkeys(t for t in named.values() if backend.token_to_id(t) is None)
    if tokens:
        logger.warning(
            "%s: names special tokens that its vocabulary lacks, which are read as ordinary "
            "characters: %s",
            folder,
            ", ".join(map(repr, list(tokens)[:MAX_NAMED])),
        )


def _candidates(backend: tokenizers.Tokenizer) -> str:
    """Return the special tokens of a vocabulary, or what looks like them, for a message."""
    added = backend.get_added_tokens_decoder().values()
    tokens = [token.content for token in added if token.special]
    tokens = tokens or sorted(t for t in backend.get_vocab() if re.fullmatch(r"<.+>|\[.+\]", t))
    shown = ", ".join(repr(token) for token in tokens[:MAX_NAMED])
    return f"; special ones are {shown}" if shown else ""


def eos_ids(folder: Path) -> list[int]:
    """Return the ids that a model folder names as ends: `eos_token_id` is one, or a list."""
    ends: list[int] = []
    for name in ("config.json", GENERATION):
        value = read_json(folder / name).get("eos_token_id")
        if value is None:
            continue
        ids = value if isinstance(value, list) else [value]
        if not all(type(token) is int for token in ids):
            raise ModelError(f"{folder / name}: eos_token_id is {value!r}; ids are needed")
        ends += ids
    return ends


def max_length(folder: Path) -> int | None:
    """Return the longest text, in tokens, that a tokenizer is meant for; None for no limit."""
    value = read_json(folder / CONFIG).get("model_max_length")
    if isinstance(value, (int, float)) and 1 < value < NO_LIMIT:
        return int(value)
    return None


def read_json(path: Path) -> dict[str, Any]:
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
