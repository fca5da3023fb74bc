"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

Every layer attends to the whole past, with logits scaled by 1 / sqrt(head_dim).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from tunewise.models.attention import Attention
from tunewise.models.config import AttentionShape, ModelConfig
from tunewise.models.language_model import Block, LanguageModel
from tunewise.models.layers import FeedForward, LayerNorm
from tunewise.models.names import Mapped


class GPT2Config(ModelConfig):
    """The shape of a GPT-2."""

    family: Literal["gpt2"] = "gpt2"

    def attention_shape(self, layer: int) -> AttentionShape:
        """Return the shape of the attention of a block."""
        return replace(super().attention_shape(layer), input_bias=True, output_bias=True)

    @classmethod
    def from_hugging_face(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return our fields from those of a Hugging Face config.json."""
        return {
            "vocabulary_size": values["vocab_size"],
            "context_length": values["n_positions"],
            "model_dim": values["n_embd"],
            "num_heads": values["n_head"],
            "num_layers": values["n_layer"],
            "mlp_dim": values.get("n_inner") or 4 * values["n_embd"],
            "norm_epsilon": values.get("layer_norm_epsilon", 1e-5),
            "tied": values.get("tie_word_embeddings", True),
        }

    def to_hugging_face(self) -> dict[str, Any]:
        """Return the fields of a Hugging Face config.json."""
        return {
            "model_type": "gpt2",
            "vocab_size": self.vocabulary_size,
            "n_positions": self.context_length,
            "n_ctx": self.context_length,  # llama.cpp's converter reads it
            "n_embd": self.model_dim,
            "n_head": self.num_heads,
            "n_layer": self.num_layers,
            "n_inner": self.mlp_dim,
            "layer_norm_epsilon": self.norm_epsilon,
            "tie_word_embeddings": self.tied,
            "activation_function": "gelu_new",
        }


class GPT2(LanguageModel):
    """GPT-2 in packed form."""

    model_type = "gpt2"
    config_type: ClassVar[type[ModelConfig]] = GPT2Config
    language_architecture = "GPT2LMHeadModel"
    label_architecture = "GPT2ForSequenceClassification"
    name_prefix = "transformer."
    block_name = "h.{}"
    tensor_names: ClassVar[tuple[Mapped, ...]] = (
        Mapped("wte.weight", "token_embedding.weight"),
        Mapped("wpe.weight", "position_embedding.weight"),
        Mapped("h.{}.ln_1.*", "blocks.{}.attention_norm.*"),
        Mapped(
            "h.{}.attn.c_attn.*",
            (
                "blocks.{}.attention.query.*",
                "blocks.{}.attention.key.*",
                "blocks.{}.attention.value.*",
            ),
            transposed=True,
        ),
        Mapped("h.{}.attn.c_proj.*", "blocks.{}.attention.out.*", transposed=True),
        Mapped("h.{}.ln_2.*", "blocks.{}.feed_forward_norm.*"),
        Mapped("h.{}.mlp.c_fc.*", "blocks.{}.feed_forward.up.*", transposed=True),
        Mapped("h.{}.mlp.c_proj.*", "blocks.{}.feed_forward.down.*", transposed=True),
        Mapped("ln_f.*", "final_norm.*"),
    )
    fixed: ClassVar = {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }
    buffers_of_old_files = r"h\.\d+\.attn\.(bias|masked_bias)"

    def __init__(self, config: ModelConfig) -> None:
        blocks = [
            Block(
                LayerNorm(config.model_dim, config.norm_epsilon),
                Attention(config.attention_shape(layer)),
                LayerNorm(config.model_dim, config.norm_epsilon),
                FeedForward(config.model_dim, config.mlp_dim),
            )
            for layer in range(config.num_layers)
        ]
        super().__init__(config, blocks, LayerNorm(config.model_dim, config.norm_epsilon))
