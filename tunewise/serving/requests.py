"""Bodies of requests: the fields of OpenAI's API that this server supports."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tunewise.settings import Settings

MAX_TEXTS = 128
"""Maximum number of texts that one request may ask for."""

NEUTRAL: Mapping[str, Any] = {
    "audio": None,
    "best_of": 1,
    "frequency_penalty": 0,
    "function_call": None,
    "functions": [],
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "parallel_tool_calls": True,
    "prediction": None,
    "presence_penalty": 0,
    "reasoning_effort": None,
    "response_format": {"type": "text"},
    "suffix": "",
    "tool_choice": "none",
    "tools": [],
    "top_logprobs": None,
    "verbosity": None,
    "web_search_options": None,
}
"""Unsupported fields of OpenAI's API, with the value that has no effect and is accepted."""
IGNORED = ("metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user")
"""Fields of OpenAI's API that do not affect a response, and are accepted with any value."""


class StreamOptions(Settings):
    """The options of a stream."""

    include_usage: bool = False
    """Whether its last event holds the numbers of tokens."""
    include_obfuscation: bool | None = None
    """Ignored: nothing is obfuscated."""


class TextRequest(Settings):
    """The fields that both writing routes share; where one is None, the run's task decides."""

    model: str
    max_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int | None = Field(default=None, gt=0, le=MAX_TEXTS)
    """Number of texts for each prompt; 1 if None."""
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=0)
    """Seed of sampling; without one, every request samples different texts."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _remove_neutral_fields(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        for name, neutral in NEUTRAL.items():
            value = values.get(name)
            # 0 equals False, and logprobs=0 does ask for something.
            is_neutral = value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
            if value is not None and not is_neutral:
                raise PydanticCustomError("unsupported", f"{name}: is not supported by this server")
        removed = NEUTRAL.keys() | set(IGNORED)
        return {name: value for name, value in values.items() if name not in removed}

    @property
    def num_new_tokens(self) -> int | None:
        """Maximum number of tokens in a text, if the request sets it."""
        return self.max_tokens

    @property
    def decoding(self) -> dict[str, Any]:
        """The fields of a DecodingConfig that the request sets."""
        fields = {
            "max_new_tokens": self.num_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
        }
        return {name: value for name, value in fields.items() if value is not None}


class CompletionRequest(TextRequest):
    """The body of /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    """One text or several, or their tokens."""
    echo: bool | None = None
    """Whether each text starts with its prompt."""

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, as a list even if there is only one."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        tokens = [token for token in self.prompt if isinstance(token, int)]
        return [tokens] if tokens else self.prompt  # type: ignore[return-value]  # no tokens left


class ChatRequest(TextRequest):
    """The body of /v1/chat/completions."""

    messages: list[Any] = Field(min_length=1)
    """The conversation, as rows for training may hold it too."""
    max_completion_tokens: int | None = Field(default=None, gt=0)
    """OpenAI's newer name for `max_tokens`."""

    @property
    def num_new_tokens(self) -> int | None:
        """Maximum number of tokens in a text, if the request sets it."""
        return self.max_completion_tokens or self.max_tokens


InputRow = str | dict[str, Any]
"""The columns of a row and their values, or the text of its only column."""


class ClassifyRequest(Settings):
    """The body of /classify."""

    model: str
    input: InputRow | list[InputRow]
    """One row or several."""

    @property
    def rows(self) -> list[InputRow]:
        """The rows, as a list even if there is only one."""
        return self.input if isinstance(self.input, list) else [self.input]
