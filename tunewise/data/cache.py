"""The cache of token ids on disk: a second run on the same texts starts at once."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tunewise.data.example import MarkedText
from tunewise.data.tokenizer import Tokenizer
from tunewise.files import cache_folder, writing_to_cache

Ids = npt.NDArray[np.int32]
"""Token ids of one text, (T,)."""

logger = logging.getLogger(__name__)

SMALLEST_CACHED = 1_000_000
"""Number of characters below which tokenizing again is faster than reading a file."""


def tokenize_cached(tokenizer: Tokenizer, texts: Sequence[str | MarkedText]) -> list[Ids]:
    """Return the ids of each text, from the cache where this tokenizer has seen these texts."""
    if sum(len(_characters(text)) for text in texts) < SMALLEST_CACHED:
        return _tokenize(tokenizer, texts)
    path = cache_folder() / "tokens" / f"{_key(tokenizer, texts)}.safetensors"
    try:
        stored = load_file(path)
        return np.split(stored["ids"], np.cumsum(stored["lengths"])[:-1])
    except (OSError, SafetensorError, KeyError):
        ids = _tokenize(tokenizer, texts)
    lengths = np.array([len(of_text) for of_text in ids], dtype=np.int64)
    _keep(path, {"ids": np.concatenate(ids), "lengths": lengths})
    return ids


def _tokenize(tokenizer: Tokenizer, texts: Sequence[str | MarkedText]) -> list[Ids]:
    return [np.array(ids, dtype=np.int32) for ids in tokenizer.tokenize(texts)]


def _key(tokenizer: Tokenizer, texts: Sequence[str | MarkedText]) -> str:
    """Return a hash of the tokenizer and the texts, which decide the ids."""
    key = hashlib.sha256(tokenizer.fingerprint.encode())
    for text in texts:
        content = _characters(text).encode("utf-8", "surrogatepass")
        key.update(len(content).to_bytes(8, "little") + content)
        parts = tokenizer.split(text)
        if not all(isinstance(part, str) for part in parts):
            key.update(ascii(parts).encode())
    return key.hexdigest()


def _characters(text: str | MarkedText) -> str:
    return text if isinstance(text, str) else text.value


def _keep(path: Path, tensors: dict[str, npt.NDArray[Any]]) -> None:
    """Write a file whole or not at all; a cache that cannot be written only costs time."""
    try:
        with writing_to_cache(path) as temporary:
            save_file(tensors, temporary)
    except (OSError, SafetensorError) as error:
        logger.warning("token ids are not cached: %s", error)
