"""Bodies of responses, in the format of OpenAI's API (https://platform.openai.com/docs/api-reference)."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, ClassVar

JSON = dict[str, Any]
"""A JSON object."""


@dataclass
class Usage:
    """Number of tokens that a request has used."""

    prompt_tokens: int
    completion_tokens: int = 0

    def json(self) -> JSON:
        """Return OpenAI's `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclass(frozen=True)
class TextResponse(ABC):
    """The response to a request for texts, in one body or as the chunks of a stream."""

    model: str
    kind: ClassVar[str]
    chunk_kind: ClassVar[str]
    id: str = field(default_factory=lambda: f"tunewise-{token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @abstractmethod
    def choice(self, text: str) -> JSON:
        """Return the fields of a choice for a whole text."""

    @abstractmethod
    def piece(self, text: str, first: bool) -> JSON:
        """Return the fields of a choice for a piece of a text."""

    def whole(self, texts: Sequence[str], finishes: Sequence[str | None], usage: Usage) -> JSON:
        """Return the body with all texts."""
        choices = [
            {"index": index, **self.choice(text), "logprobs": None, "finish_reason": finish}
            for index, (text, finish) in enumerate(zip(texts, finishes, strict=True))
        ]
        return {**self._head(self.kind), "choices": choices, "usage": usage.json()}

    def chunk(self, index: int, text: str, first: bool, finish: str | None) -> JSON:
        """Return a stream's chunk with a piece of one text."""
        choice = {"index": index, **self.piece(text, first), "finish_reason": finish}
        return {**self._head(self.chunk_kind), "choices": [{**choice, "logprobs": None}]}

    def usage_chunk(self, usage: Usage) -> JSON:
        """Return a stream's chunk with nothing but the usage."""
        return {**self._head(self.chunk_kind), "choices": [], "usage": usage.json()}

    def _head(self, kind: str) -> JSON:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


class Completion(TextResponse):
    """The response of /v1/completions."""

    kind = chunk_kind = "text_completion"

    def choice(self, text: str) -> JSON:
        """Return the fields of a choice for a whole text."""
        return {"text": text}

    def piece(self, text: str, first: bool) -> JSON:
        """Return the fields of a choice for a piece of a text."""
        return {"text": text}


class Chat(TextResponse):
    """The response of /v1/chat/completions."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def choice(self, text: str) -> JSON:
        """Return the fields of a choice for a whole text."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def piece(self, text: str, first: bool) -> JSON:
        """Return the fields of a choice for a piece of a text; the first one names the role."""
        return {"delta": {**({"role": "assistant"} if first else {}), "content": text}}


def model(name: str, created: int) -> JSON:
    """Return OpenAI's description of a model."""
    return {"id": name, "object": "model", "created": created, "owned_by": "tunewise"}


def model_list(names: Sequence[str], created: int) -> JSON:
    """Return OpenAI's list of models."""
    return {"object": "list", "data": [model(name, created) for name in names]}


def error(message: str, status: int, code: str | None = None) -> JSON:
    """Return OpenAI's error object."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
