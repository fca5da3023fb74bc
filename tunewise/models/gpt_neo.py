"""GPT-Neo (Black et al. 2021, https://doi.org/10.5281/zenodo.5297715).

As GPT-2, but every other layer sees only the last 256 tokens, attention logits are not scaled, and
query, key and value have no bias.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tunewise.models.config import AttentionShape, ModelConfig
from tunewise.models.gpt2 import GPT2
from tunewise.models.names import Mapped

MAX_REPEATS = 2000
"""Most kinds of attention that are read from a config.json: more than a model may have layers."""


class GPTNeoConfig(ModelConfig):
    """The shape of a GPT-Neo."""

    family: Literal["gpt_neo"] = "gpt_neo"
    window: int = Field(default=256, gt=0)
    """Number of tokens that a local layer sees, the token itself included."""
    attention: tuple[Literal["global", "local"], ...]
    """The kind of attention of each layer."""

    @model_validator(mode="after")
    def _every_layer_has_its_attention(self) -> Self:
        if len(self.attention) != self.num_layers:
            raise ValueError(
                f"{len(self.attention)} kinds of attention for {self.num_layers} layers"
            )
        return self

    def attention_shape(self, layer: int) -> AttentionShape:
        """Return the shape of the attention of a block."""
        return replace(
            super().attention_shape(layer),
            scale=1.0,
            window=self.window if self.attention[layer] == "local" else None,
            output_bias=True,
        )

    @classmethod
    def from_hugging_face(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return our fields from those of a Hugging Face config.json."""
        repeated = (
            list(kinds) * min(repeats, MAX_REPEATS) for kinds, repeats in values["attention_types"]
        )
        layers = list(islice(chain.from_iterable(repeated), MAX_REPEATS))
        return {
            "vocabulary_size": values["vocab_size"],
            "context_length": values["max_position_embeddings"],
            "model_dim": values["hidden_size"],
            "num_heads": values["num_heads"],
            "num_layers": values["num_layers"],
            "mlp_dim": values.get("intermediate_size") or 4 * values["hidden_size"],
            "norm_epsilon": values.get("layer_norm_epsilon", 1e-5),
            "tied": values.get("tie_word_embeddings", True),
            "window": values.get("window_size", 256),
            "attention": layers,
        }

    def to_hugging_face(self) -> dict[str, Any]:
        """Return the fields of a Hugging Face config.json."""
        return {
            "model_type": "gpt_neo",
            "vocab_size": self.vocabulary_size,
            "max_position_embeddings": self.context_length,
            "hidden_size": self.model_dim,
            "num_heads": self.num_heads,
            "num_layers": self.num_layers,
            "intermediate_size": self.mlp_dim,
            "layer_norm_epsilon": self.norm_epsilon,
            "tie_word_embeddings": self.tied,
            "window_size": self.window,
            "attention_types": [[[kind], 1] for kind in self.attention],
            "activation_function": "gelu_new",
        }


class GPTNeo(GPT2):
    """GPT-Neo in packed form: GPT-2's blocks with another attention, under other names."""

    model_type = "gpt_neo"
    config_type = GPTNeoConfig
    language_architecture = "GPTNeoForCausalLM"
    label_architecture = "GPTNeoForSequenceClassification"
    name_prefix = "transformer."
    block_name = "h.{}"
    tensor_names = (
        Mapped("wte.weight", "token_embedding.weight"),
        Mapped("wpe.weight", "position_embedding.weight"),
        Mapped("h.{}.attn.attention.q_proj.weight", "blocks.{}.attention.query.weight"),
        Mapped("h.{}.attn.attention.k_proj.weight", "blocks.{}.attention.key.weight"),
        Mapped("h.{}.attn.attention.v_proj.weight", "blocks.{}.attention.value.weight"),
        Mapped("h.{}.attn.attention.out_proj.*", "blocks.{}.attention.out.*"),
        Mapped("h.{}.ln_1.*", "blocks.{}.attention_norm.*"),
        Mapped("h.{}.ln_2.*", "blocks.{}.feed_forward_norm.*"),
        Mapped("h.{}.mlp.c_fc.*", "blocks.{}.feed_forward.up.*"),
        Mapped("h.{}.mlp.c_proj.*", "blocks.{}.feed_forward.down.*"),
        Mapped("ln_f.*", "final_norm.*"),
    )
    fixed: ClassVar = {"activation_function": "gelu_new"}
    buffers_of_old_files = r"h\.\d+\.attn\.attention\.(bias|masked_bias)"
