"""Text to token ids and back, by Hugging Face `tokenizers`."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tunewise.errors import ModelError

END_OF_TEXT = "<|endoftext|>"


class Tokenizer:
    """A tokenizer of the `tokenizers` library and the token that ends a text.

    What looks like a special token in a text is read as ordinary characters, so that no row of data
    can end another's text.
    """

    def __init__(self, backend: tokenizers.Tokenizer, end_of_text: str = END_OF_TEXT) -> None:
        """Raises ModelError if the vocabulary lacks the end-of-text token."""
        token_id = backend.token_to_id(end_of_text)
        if token_id is None:
            raise ModelError(f"the tokenizer has no token {end_of_text!r} to end a text with")
        self.end_of_text: int = token_id
        self._end_of_text_token = end_of_text
        self._backend = backend
        self._backend.encode_special_tokens = True
        self._backend.no_padding()
        self._backend.no_truncation()

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
            tokenizer = cls(backend, _end_of_text(folder))
        except ModelError:
            raise
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{folder}: the tokenizer cannot be read: {error}") from error
        if not tokenizer.encode(["a"])[0]:
            raise ModelError(f"{folder}: the tokenizer has no token for 'a': texts would be lost")
        return tokenizer

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, vocab.json, merges.txt and tokenizer_config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        self._backend.save(str(folder / "tokenizer.json"))
        self._backend.model.save(str(folder))
        token = self._end_of_text_token
        special = {"tokenizer_class": "GPT2Tokenizer", "bos_token": token, "eos_token": token}
        values = special | {"unk_token": token, "pad_token": token, "add_prefix_space": False}
        (folder / "tokenizer_config.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, with no special token added."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids."""
        return self._backend.decode(list(ids), skip_special_tokens=False)

    @property
    def size(self) -> int:
        """How many ids there are: one more than the largest."""
        return max(self._backend.get_vocab().values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides how a text is encoded."""
        return hashlib.sha256(self._backend.to_str().encode("utf-8")).hexdigest()


def byte_level(model: models.Model) -> tokenizers.Tokenizer:
    """Return a tokenizer that works on bytes as GPT-2's does, around a vocabulary."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _end_of_text(folder: Path) -> str:
    """Return the token that tokenizer_config.json names as the end, or GPT-2's."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return END_OF_TEXT
    token = json.loads(path.read_text("utf-8")).get("eos_token") or END_OF_TEXT
    return str(token["content"] if isinstance(token, dict) else token)
