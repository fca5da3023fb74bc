"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

Every layer attends to the whole past, with logits scaled by 1 / sqrt(head_dim).
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from tunewise.models.attention import Attention
from tunewise.models.language_model import Block, LanguageModel, ModelConfig, Stored
from tunewise.models.layers import FeedForward, LayerNorm


class GPT2Config(ModelConfig):
    """The shape of a GPT-2."""

    family: Literal["gpt2"] = "gpt2"

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

    language_architecture = "GPT2LMHeadModel"
    label_architecture = "GPT2ForSequenceClassification"
    prefix = "transformer."
    fixed: ClassVar = {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }
    buffers_of_old_files = r"h\.\d+\.attn\.(bias|masked_bias)"

    def __init__(self, config: GPT2Config) -> None:
        blocks = [
            Block(
                LayerNorm(config.model_dim, config.norm_epsilon),
                Attention(config.model_dim, config.num_heads),
                LayerNorm(config.model_dim, config.norm_epsilon),
                FeedForward(config.model_dim, config.mlp_dim),
            )
            for _ in range(config.num_layers)
        ]
        super().__init__(config, blocks, LayerNorm(config.model_dim, config.norm_epsilon))

    def stored_tensors(self) -> Iterator[Stored]:
        """Yield the tensors of a Hugging Face checkpoint, the output layer left out."""
        yield Stored("wte.weight", ("token_embedding.weight",))
        yield Stored("wpe.weight", ("position_embedding.weight",))
        for index in range(self.config.num_layers):
            theirs, ours = f"h.{index}", f"blocks.{index}"
            for kind in ("weight", "bias"):
                turned = kind == "weight"
                inputs = tuple(
                    f"{ours}.attention.{name}.{kind}" for name in ("query", "key", "value")
                )
                yield Stored(f"{theirs}.ln_1.{kind}", (f"{ours}.attention_norm.{kind}",))
                yield Stored(f"{theirs}.attn.c_attn.{kind}", inputs, turned)
                yield Stored(
                    f"{theirs}.attn.c_proj.{kind}", (f"{ours}.attention.out.{kind}",), turned
                )
                yield Stored(f"{theirs}.ln_2.{kind}", (f"{ours}.feed_forward_norm.{kind}",))
                yield Stored(
                    f"{theirs}.mlp.c_fc.{kind}", (f"{ours}.feed_forward.up.{kind}",), turned
                )
                yield Stored(
                    f"{theirs}.mlp.c_proj.{kind}", (f"{ours}.feed_forward.down.{kind}",), turned
                )
        for kind in ("weight", "bias"):
            yield Stored(f"ln_f.{kind}", (f"final_norm.{kind}",))
