"""Known models: their shapes, so that counting needs no file, and the source of their files."""

from typing import NamedTuple

from tunewise.models.config import ModelConfig
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.gpt_neo import GPTNeoConfig

POCKET = "pocket"


class KnownModel(NamedTuple):
    """A model that is known by a name."""

    config: ModelConfig
    home: str
    """The source of its files: a hub id, or the package itself."""


def _gpt2(model_dim: int, num_heads: int, num_layers: int) -> GPT2Config:
    return GPT2Config(
        vocabulary_size=50257,
        context_length=1024,
        model_dim=model_dim,
        num_heads=num_heads,
        num_layers=num_layers,
        mlp_dim=4 * model_dim,
    )


def _gpt_neo(model_dim: int, num_heads: int, num_layers: int) -> GPTNeoConfig:
    return GPTNeoConfig(
        vocabulary_size=50257,
        context_length=2048,
        model_dim=model_dim,
        num_heads=num_heads,
        num_layers=num_layers,
        mlp_dim=4 * model_dim,
        attention=("global", "local") * (num_layers // 2),
    )


POCKET_CONFIG = GPT2Config(
    vocabulary_size=4096,
    context_length=512,
    model_dim=256,
    num_heads=4,
    num_layers=6,
    mlp_dim=1024,
)

KNOWN_MODELS: dict[str, KnownModel] = {
    POCKET: KnownModel(POCKET_CONFIG, "in the package"),
    "distilgpt2": KnownModel(_gpt2(768, 12, 6), "distilbert/distilgpt2"),
    "gpt2": KnownModel(_gpt2(768, 12, 12), "openai-community/gpt2"),
    "gpt2-medium": KnownModel(_gpt2(1024, 16, 24), "openai-community/gpt2-medium"),
    "gpt2-large": KnownModel(_gpt2(1280, 20, 36), "openai-community/gpt2-large"),
    "gpt2-xl": KnownModel(_gpt2(1600, 25, 48), "openai-community/gpt2-xl"),
    "gpt-neo-125m": KnownModel(_gpt_neo(768, 12, 12), "EleutherAI/gpt-neo-125m"),
    "gpt-neo-1.3b": KnownModel(_gpt_neo(2048, 16, 24), "EleutherAI/gpt-neo-1.3B"),
    "gpt-neo-2.7b": KnownModel(_gpt_neo(2560, 20, 32), "EleutherAI/gpt-neo-2.7B"),
}
