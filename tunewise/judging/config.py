"""Settings of a judge: its model, its endpoint, its prompts and its retries."""

import hashlib
import os
from typing import Any

from pydantic import Field, field_validator

from tunewise.judging.prompts import PAIR_TEMPLATE, SCORE_TEMPLATE, check_template
from tunewise.settings import Settings


class JudgeConfig(Settings):
    """A judge: a model behind an OpenAI-compatible endpoint, and how requests are made.

    The key is not a setting, so that it is in no file: it stays in the environment.
    """

    model: str = Field(default="", validate_default=True)
    """The judge's name at its endpoint; default: TUNEWISE_JUDGE_MODEL of the environment."""
    base_url: str = Field(default="", validate_default=True)
    """The endpoint's address, for most servers one that ends in `/v1`; default: OPENAI_BASE_URL
    of the environment, or else OpenAI's."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. A local server may need none."""
    calls: int = Field(default=3, ge=1)
    """Number of calls for each question."""
    concurrency: int = Field(default=8, ge=1)
    """Maximum number of requests at once."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds to wait for a whole reply."""
    max_retries: int = Field(default=6, ge=0)
    """Most retries of a failed request."""
    temperature: float | None = Field(default=1.0, ge=0, le=2)
    """The judge's sampling temperature; `null` leaves it to the endpoint. At 0, replies to the same
    question hardly differ."""
    template: str = SCORE_TEMPLATE
    """Prompt about one response: a text with `{input}`, `{reference}` and `{response}`."""
    pair_template: str = PAIR_TEMPLATE
    """Prompt about two responses: `{response_a}` and `{response_b}` in place of `{response}`."""

    @field_validator("model")
    @classmethod
    def _default_model(cls, model: str) -> str:
        model = model or os.environ.get("TUNEWISE_JUDGE_MODEL", "")
        if not model:
            raise ValueError("no model is named: set model, or TUNEWISE_JUDGE_MODEL")
        return model

    @field_validator("base_url")
    @classmethod
    def _default_base_url(cls, base_url: str) -> str:
        base_url = base_url or os.environ.get("OPENAI_BASE_URL", "")
        if base_url and not base_url.startswith(("http://", "https://")):
            raise ValueError("a web address is needed, such as http://localhost:8000/v1")
        return base_url

    @field_validator("template")
    @classmethod
    def _check_template(cls, template: str) -> str:
        return check_template(template, ("response",))

    @field_validator("pair_template")
    @classmethod
    def _check_pair_template(cls, template: str) -> str:
        return check_template(template, ("response_a", "response_b"))

    def identity(self, template: str) -> dict[str, Any]:
        """Return the fields that identify a judge: scores are comparable if they are equal."""
        return {
            "model": self.model,
            "temperature": self.temperature,
            "prompt": hashlib.sha256(template.encode()).hexdigest()[:12],
            "calls": self.calls,
        }
