"""Token ids kept on disk by content, so that a second run on the same texts starts at once."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tunewise.data.tokenizer import Tokenizer
from tunewise.files import cache_folder, writing_to_cache

Ids = npt.NDArray[np.int32]
"""Token ids of one text, (T,)."""

logger = logging.getLogger(__name__)

SMALLEST_CACHED = 1_000_000
"""Characters below which encoding anew is faster than looking in a file."""


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    """Return the ids of each text, from the cache where this tokenizer has seen these texts."""
    if sum(map(len, texts)) < SMALLEST_CACHED:
        return _encode(tokenizer, texts)
    key = hashlib.sha256(tokenizer.fingerprint.encode())
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        key.update(len(content).to_bytes(8, "little") + content)
    path = cache_folder() / "tokens" / f"{key.hexdigest()}.safetensors"
    try:
        stored = load_file(path)
        return np.split(stored["ids"], np.cumsum(stored["lengths"])[:-1])
    except (OSError, SafetensorError, KeyError):
        encoded = _encode(tokenizer, texts)
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    _keep(path, {"ids": np.concatenate(encoded), "lengths": lengths})
    return encoded


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    return [np.array(ids, dtype=np.int32) for ids in tokenizer.encode(texts)]


def _keep(path: Path, tensors: dict[str, npt.NDArray[Any]]) -> None:
    """Write a file whole or not at all; a cache that cannot be written only costs time."""
    try:
        with writing_to_cache(path) as temporary:
            save_file(tensors, temporary)
    except (OSError, SafetensorError) as error:
        logger.warning("token ids are not cached: %s", error)
