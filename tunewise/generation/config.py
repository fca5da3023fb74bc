"""Settings of decoding: greedy, sampling or beam search."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from tunewise.settings import Settings


class DecodingConfig(Settings):
    """The way a text is written: greedily, by sampling, or by beam search."""

    max_new_tokens: int = Field(default=128, gt=0)
    """Maximum number of tokens in an output."""
    temperature: float = Field(default=0.0, ge=0)
    """Logits are divided by this before a token is sampled; 0 always takes the likeliest token."""
    top_k: int | None = Field(default=None, gt=0)
    """Sample from this many of the likeliest tokens."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the fewest tokens whose probabilities add up to this (https://arxiv.org/abs/1904.09751)."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens of the prompt and the output become less likely (https://arxiv.org/abs/1909.05858)."""
    num_beams: int = Field(default=1, gt=0)
    """Number of outputs that are continued side by side; the likeliest is chosen in the end."""
    length_penalty: float = 1.0
    """Beams compare log p / length^this: above 0 favours long outputs, below 0 short ones."""
    stop: tuple[str, ...] = ()
    """Strings that end an output; it is cut before the first of them."""

    @field_validator("stop")
    @classmethod
    def _refuse_empty_stop(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("an empty string would end every output before it begins")
        return stop

    @model_validator(mode="after")
    def _refuse_beams_that_sample(self) -> Self:
        if self.num_beams > 1 and self.temperature > 0:
            raise ValueError("beam search does not sample: set `temperature: 0`, or `num_beams: 1`")
        return self
