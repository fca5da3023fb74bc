"""Language models: the families, and how they are found, read and written."""

from tunewise.models.config import ModelConfig
from tunewise.models.gpt2 import GPT2, GPT2Config
from tunewise.models.gpt_neo import GPTNeo, GPTNeoConfig
from tunewise.models.language_model import LanguageModel

AnyModel = GPT2 | GPTNeo
"""Every family. To add one, write its file and name it here and below."""

FAMILIES: dict[str, tuple[type[ModelConfig], type[LanguageModel]]] = {
    "gpt2": (GPT2Config, GPT2),
    "gpt_neo": (GPTNeoConfig, GPTNeo),
}
"""Each family by the `model_type` of its Hugging Face config.json."""

__all__ = ["FAMILIES", "AnyModel", "LanguageModel", "ModelConfig"]
