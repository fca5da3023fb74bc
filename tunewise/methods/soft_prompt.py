"""Soft prompt: trained vectors before every sequence, the model itself frozen (https://arxiv.org/abs/2104.08691)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.method import Method, freeze
from tunewise.methods.virtual_tokens import check_room, first_ids
from tunewise.models import LanguageModel
from tunewise.peft import read as peft_folder


class PromptedEmbedding(nn.Module):
    """A frozen embedding of V ids whose table goes on with P trained rows: ids V to V + P - 1."""

    def __init__(self, base: nn.Module, prompt: Tensor) -> None:
        super().__init__()
        self.base = base
        self.prompt = nn.Parameter(prompt)  # (P, D)

    @property
    def weight(self) -> Tensor:
        """The frozen table, (V, D), which a tied output layer shares."""
        return self.base.weight  # type: ignore[return-value]  # an attribute of any nn.Module

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (N, D) from (N,) ids."""
        virtual = tokens - self.weight.shape[0]  # (N,)
        is_virtual = (virtual >= 0).unsqueeze(-1)  # (N, 1)
        known = self.base(tokens.clamp(max=self.weight.shape[0] - 1))  # (N, D)
        return torch.where(is_virtual, F.embedding(virtual.clamp(min=0), self.prompt), known)


class SoftPrompt(Method):
    """Train the embeddings of virtual tokens."""

    kind: Literal["soft_prompt"] = "soft_prompt"
    default_learning_rate: ClassVar[float] = 1e-2
    tokens: int = Field(default=12, gt=0, le=2**16)
    """How many virtual tokens."""
    init: Literal["vocabulary", "text", "gaussian"] = "vocabulary"
    """Where they start: at random rows of the embedding, at a text's, or normal(0, 0.02)."""
    text: str | None = None
    """The text to start from, repeated or cut to the number of tokens."""
    from_: peft_folder.Folder | None = Field(default=None, alias="from")
    """The folder of a soft prompt that PEFT wrote, to go on from; it says how many `tokens`."""

    @model_validator(mode="before")
    @classmethod
    def _tokens_of_the_adapter(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("from") is None:
            return values
        length = peft_folder.num_virtual_tokens(Path(values["from"]).expanduser())
        if values.get("tokens", length) != length:
            raise ValueError(f"tokens: {values['tokens']}; the adapter in `from` has {length}")
        return {**values, "tokens": length}

    @model_validator(mode="after")
    def _text_is_there_when_needed(self) -> Self:
        if (self.init == "text") != bool(self.text):
            raise ValueError("`text` and `init: text` need each other")
        peft_folder.refuse_fields(self, self.from_, but=("tokens",))
        return self

    @property
    def prefix_length(self) -> int:
        """How many virtual tokens stand before every sequence."""
        return self.tokens

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze the model and lengthen its token embedding by the prompt."""
        check_room(self.tokens, model)
        freeze(model)
        prompt = self._start(model, generator, tokenizer)
        if self.from_ is not None:
            read = peft_folder.read_prompt(self.from_, model)
            prompt = prompt if prompt.is_meta else read
        model.token_embedding = PromptedEmbedding(model.token_embedding, prompt)

    def _start(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None
    ) -> Tensor:
        """Return the first values of the prompt, (P, D), in fp32."""
        table = model.get_parameter("token_embedding.weight")
        shape = self.tokens, model.config.model_dim
        if table.is_meta:
            return torch.empty(shape, device="meta")
        if self.init == "gaussian":
            return torch.randn(shape, generator=generator) * 0.02
        rows = first_ids(self.tokens, self.text, model, generator, tokenizer)
        return table.detach()[rows].float()
