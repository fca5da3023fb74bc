"""Language models: the families, and how they are found, read and written."""

from tunewise.models.config import ModelConfig
from tunewise.models.gpt2 import GPT2
from tunewise.models.gpt_neo import GPTNeo
from tunewise.models.language_model import LanguageModel

FAMILIES: dict[str, type[LanguageModel]] = {
    family.model_type: family
    for family in (
        GPT2,
        GPTNeo,
    )
}
"""Each family by the `model_type` of its Hugging Face config.json. To add one, write its file and
name it here."""

__all__ = ["FAMILIES", "LanguageModel", "ModelConfig"]
