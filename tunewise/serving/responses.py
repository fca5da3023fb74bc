"""What is answered, in the shapes of OpenAI's API (https://platform.openai.com/docs/api-reference)."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, ClassVar

JSON = dict[str, Any]


@dataclass
class Usage:
    """How many tokens a request has taken."""

    prompt_tokens: int
    completion_tokens: int = 0

    def json(self) -> JSON:
        """Return the object `usage`."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


@dataclass(frozen=True)
class TextResponse(ABC):
    """A response that holds texts, whole or as the chunks of a stream."""

    model: str
    kind: ClassVar[str]
    chunk_kind: ClassVar[str]
    id: str = field(default_factory=lambda: f"tunewise-{token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @abstractmethod
    def choice(self, text: str) -> JSON:
        """Return what holds a whole text."""

    @abstractmethod
    def part(self, text: str, first: bool) -> JSON:
        """Return what holds a part of a text."""

    def whole(self, texts: Sequence[str], finishes: Sequence[str | None], usage: Usage) -> JSON:
        """Return the response that holds everything."""
        choices = [
            {"index": index, **self.choice(text), "logprobs": None, "finish_reason": finish}
            for index, (text, finish) in enumerate(zip(texts, finishes, strict=True))
        ]
        return {**self._head(self.kind), "choices": choices, "usage": usage.json()}

    def chunk(self, index: int, text: str, first: bool, finish: str | None) -> JSON:
        """Return a part of one text."""
        part = {"index": index, **self.part(text, first), "finish_reason": finish}
        return {**self._head(self.chunk_kind), "choices": [{**part, "logprobs": None}]}

    def last_chunk(self, usage: Usage) -> JSON:
        """Return the chunk that only tells the usage."""
        return {**self._head(self.chunk_kind), "choices": [], "usage": usage.json()}

    def _head(self, kind: str) -> JSON:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


class Completion(TextResponse):
    """What /v1/completions answers."""

    kind = chunk_kind = "text_completion"

    def choice(self, text: str) -> JSON:
        """Return what holds a whole text."""
        return {"text": text}

    def part(self, text: str, first: bool) -> JSON:
        """Return what holds a part of a text."""
        return {"text": text}


class Chat(TextResponse):
    """What /v1/chat/completions answers."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def choice(self, text: str) -> JSON:
        """Return what holds a whole text."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def part(self, text: str, first: bool) -> JSON:
        """Return what holds a part of a text; the first also says who speaks."""
        return {"delta": {**({"role": "assistant"} if first else {}), "content": text}}


def models(names: Sequence[str], created: int) -> JSON:
    """Return the list of models."""
    data = [
        {"id": name, "object": "model", "created": created, "owned_by": "tunewise"}
        for name in names
    ]
    return {"object": "list", "data": data}


def error(message: str, status: int, code: str | None = None) -> JSON:
    """Return what says why a request is not answered."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
