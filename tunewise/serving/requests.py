"""What may be asked: the fields of OpenAI's requests that mean something here, no others."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tunewise.settings import Settings

MAX_TEXTS = 128
"""That one request may ask for."""

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
"""Fields of OpenAI's that this server has no use for, and the value that asks for nothing."""
FOR_OTHERS = ("metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user")
"""Fields that change no answer."""


class StreamOptions(Settings):
    """What a stream also tells."""

    include_usage: bool = False
    """Whether its last event has the numbers of tokens."""
    include_obfuscation: bool | None = None
    """Read and left alone: nothing is obfuscated."""


class TextRequest(Settings):
    """What the two routes that write have in common. What is None is as the run's task has it."""

    model: str
    max_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int | None = Field(default=None, gt=0, le=MAX_TEXTS)
    """How many texts for each prompt; 1 if None."""
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=0)
    """With it, what is drawn can be drawn again; without it, chance is new each time."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_means_nothing(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        for name, neutral in NEUTRAL.items():
            value = values.get(name)
            # 0 equals False, and logprobs=0 does ask for something.
            is_neutral = value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
            if value is not None and not is_neutral:
                raise PydanticCustomError("unsupported", f"{name}: is not supported by this server")
        left_out = NEUTRAL.keys() | set(FOR_OTHERS)
        return {name: value for name, value in values.items() if name not in left_out}

    @property
    def num_new_tokens(self) -> int | None:
        """The most tokens of a text, if the request says it."""
        return self.max_tokens

    @property
    def decoding(self) -> dict[str, Any]:
        """Fields of a DecodingConfig that the request sets."""
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
    """A text or several, or their tokens."""
    echo: bool | None = None
    """Whether a text begins with its prompt."""

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, also if there is one."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        tokens = [token for token in self.prompt if isinstance(token, int)]
        return [tokens] if tokens else self.prompt  # type: ignore[return-value]  # no tokens left


class TextPart(Settings):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(Settings):
    """A turn of a conversation."""

    role: Literal["developer", "system", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None
    """Read and left alone."""

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(TextRequest):
    """The body of /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, gt=0)
    """OpenAI's newer name of `max_tokens`."""

    @property
    def num_new_tokens(self) -> int | None:
        """The most tokens of a text, if the request says it."""
        return self.max_completion_tokens or self.max_tokens


Row = str | dict[str, Any]


class ClassifyRequest(Settings):
    """The body of /classify."""

    model: str
    input: Row | list[Row]
    """A row or several: its columns and their values, or the text of its only column."""

    @property
    def rows(self) -> list[Row]:
        """The rows, also if there is one."""
        return self.input if isinstance(self.input, list) else [self.input]
