"""Which judge is asked, where, and how."""

import hashlib
import os
from typing import Any

from pydantic import Field, field_validator

from tunewise.judging.prompts import PAIR_TEMPLATE, SCORE_TEMPLATE, check_template
from tunewise.settings import Settings


class JudgeConfig(Settings):
    """A judge: a model behind an OpenAI-compatible endpoint, and how it is asked.

    The key is no setting, so that no file can hold it: it stays in the environment.
    """

    model: str = Field(default="", validate_default=True)
    """The judge's name at its endpoint. Without it, TUNEWISE_JUDGE_MODEL."""
    base_url: str = Field(default="", validate_default=True)
    """The endpoint, which ends in `/v1` for most servers. Without it, OPENAI_BASE_URL, or else that
    of OpenAI."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. A local server may need none."""
    calls: int = Field(default=3, ge=1)
    """How often each question is asked."""
    concurrency: int = Field(default=8, ge=1)
    """The most requests under way at once."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds to wait for a reply."""
    max_retries: int = Field(default=6, ge=0)
    """How often a request that failed is sent again."""
    temperature: float | None = Field(default=1.0, ge=0, le=2)
    """How much chance is in a reply; `null` leaves it to the endpoint. At 0, all calls say much the
    same."""
    template: str = SCORE_TEMPLATE
    """The question about one response: text with `{input}`, `{reference}` and `{response}`."""
    pair_template: str = PAIR_TEMPLATE
    """The question about two: with `{response_a}` and `{response_b}` in place of `{response}`."""

    @field_validator("model")
    @classmethod
    def _model_of_the_environment(cls, model: str) -> str:
        model = model or os.environ.get("TUNEWISE_JUDGE_MODEL", "")
        if not model:
            raise ValueError("no model is named to judge: set model, or TUNEWISE_JUDGE_MODEL")
        return model

    @field_validator("base_url")
    @classmethod
    def _endpoint_of_the_environment(cls, base_url: str) -> str:
        base_url = base_url or os.environ.get("OPENAI_BASE_URL", "")
        if base_url and not base_url.startswith(("http://", "https://")):
            raise ValueError("a web address is needed, such as http://localhost:8000/v1")
        return base_url

    @field_validator("template")
    @classmethod
    def _shows_the_response(cls, template: str) -> str:
        return check_template(template, ("response",))

    @field_validator("pair_template")
    @classmethod
    def _shows_both_responses(cls, template: str) -> str:
        return check_template(template, ("response_a", "response_b"))

    def identity(self, template: str) -> dict[str, Any]:
        """Return what makes scores comparable: they are of one judge if this is equal."""
        return {
            "model": self.model,
            "temperature": self.temperature,
            "prompt": hashlib.sha256(template.encode()).hexdigest()[:12],
            "calls": self.calls,
        }
