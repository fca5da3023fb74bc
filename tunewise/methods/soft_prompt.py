"""Soft prompt: trained vectors before every sequence, the model itself frozen (https://arxiv.org/abs/2104.08691)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.methods.method import Method, Wrapped, freeze, refuse_settings
from tunewise.methods.virtual_tokens import choose_ids, require_room_for_text
from tunewise.models import LanguageModel
from tunewise.peft.config import count_virtual_tokens
from tunewise.peft.origin import say_origin
from tunewise.peft.read import Folder, read_prompt, set_label_layer
from tunewise.peft.write import PeftAdapter, virtual_tokens_adapter


class PromptedEmbedding(Wrapped):
    """A frozen embedding of V ids whose table continues with P trained rows: ids V to V + P - 1."""

    def __init__(self, base: nn.Module, prompt: Tensor) -> None:
        super().__init__(base)
        self.prompt = nn.Parameter(prompt)  # (P, D)

    @property
    def weight(self) -> Tensor:
        """The frozen table, (V, D), which a tied output layer shares."""
        return self.base.weight  # type: ignore[return-value]  # an attribute of any nn.Module

    def forward(self, ids: Tensor) -> Tensor:
        """Return (N, D) from (N,) ids."""
        vocabulary_size = len(self.weight)
        rows = ids - vocabulary_size  # (N,) of the prompt; below 0 for ids of the vocabulary
        is_virtual = (rows >= 0).unsqueeze(-1)  # (N, 1)
        of_vocabulary = self.base(ids.clamp(max=vocabulary_size - 1))  # (N, D)
        of_prompt = F.embedding(rows.clamp(min=0), self.prompt)  # (N, D)
        return torch.where(is_virtual, of_prompt, of_vocabulary)

    def merged(self) -> nn.Module:
        """Raise ConfigError: no embedding of the vocabulary holds the prompt."""
        raise ConfigError(f"soft_prompt: {SoftPrompt.why_not_merged}")


class SoftPrompt(Method):
    """Train the embeddings of virtual tokens.

    With `from`, validating these settings opens the adapter's configuration, which says how many
    tokens there are: everything that counts positions needs the number before a model is there.
    """

    kind: Literal["soft_prompt"] = "soft_prompt"
    default_learning_rate: ClassVar[float] = 1e-2
    why_not_merged: ClassVar[str | None] = "virtual tokens are not weights of a model"
    tokens: int = Field(default=12, gt=0, le=2**16)
    """Number of virtual tokens."""
    init: Literal["vocabulary", "text", "gaussian"] = "vocabulary"
    """Initial values: random rows of the embedding, the rows of a text, or normal(0, 0.02)."""
    text: str | None = None
    """The text to start from, repeated or cut to the number of tokens."""
    from_: Folder | None = Field(default=None, alias="from")
    """The folder of a soft prompt that PEFT wrote, to continue from; it decides `tokens`."""

    @model_validator(mode="before")
    @classmethod
    def _tokens_are_those_of_the_adapter(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("from") is None:
            return values
        length = count_virtual_tokens(Path(values["from"]).expanduser())
        if values.get("tokens", length) != length:
            raise ValueError(f"tokens: {values['tokens']}; the adapter in `from` has {length}")
        return {**values, "tokens": length}

    @model_validator(mode="after")
    def _text_is_there_when_needed(self) -> Self:
        if (self.init == "text") != bool(self.text):
            raise ValueError("`text` and `init: text` need each other")
        return self

    @model_validator(mode="after")
    def _nothing_is_set_that_the_adapter_decides(self) -> Self:
        if self.from_ is not None:
            refuse_settings(self, allowed=("from_", "tokens"))
        return self

    @property
    def num_virtual_ids(self) -> int:
        """Number of virtual ids that stand before every sequence."""
        return self.tokens

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze the model and add the prompt to its token embedding."""
        require_room_for_text(self.tokens, model)
        freeze(model)
        if self.from_ is None:
            prompt = self._first_values(model, generator, tokenizer)
        else:
            stored = read_prompt(self.from_, model)
            set_label_layer(model, stored.label_layer)
            prompt = stored.prompt.to(model.get_parameter("token_embedding.weight").device)
        model.token_embedding = PromptedEmbedding(model.token_embedding, prompt)

    def say_origin(self, model: str, labels: Sequence[str] | None) -> None:
        """Say whether the adapter in `from` was made for another model; nothing without one."""
        if self.from_ is not None:
            say_origin(self.from_, "PROMPT_TUNING", model, labels)

    def to_peft(self, model: LanguageModel) -> PeftAdapter:
        """Return the prompt."""
        prompt: Tensor = model.get_parameter("token_embedding.prompt")  # (P, D)
        # PEFT needs the initial values of a prompt, which no longer matter.
        return virtual_tokens_adapter(
            model, "PROMPT_TUNING", prompt, ["token_embedding"], prompt_tuning_init="RANDOM"
        )

    def _first_values(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None
    ) -> Tensor:
        """Return the prompt to start from, (P, D), in fp32."""
        table = model.get_parameter("token_embedding.weight")
        shape = self.tokens, model.config.model_dim
        if table.is_meta:
            return torch.empty(shape, device="meta")
        if self.init == "gaussian":
            return torch.randn(shape, generator=generator) * 0.02
        ids = choose_ids(self.tokens, self.text, model, generator, tokenizer)
        return table.detach()[ids].float()
