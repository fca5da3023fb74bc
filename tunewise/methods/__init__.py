"""The methods, one file each. To add one, write its file and name it here."""

from typing import Annotated

from pydantic import Field

from tunewise.methods.full import Full
from tunewise.methods.last_blocks import LastBlocks
from tunewise.methods.last_layer import LastLayer
from tunewise.methods.lora import LoRA
from tunewise.methods.method import Method
from tunewise.methods.soft_prompt import SoftPrompt

AnyMethod = Annotated[
    Full | LastLayer | LastBlocks | LoRA | SoftPrompt, Field(discriminator="kind")
]

METHODS: dict[str, type[Method]] = {
    "full": Full,
    "last_layer": LastLayer,
    "last_blocks": LastBlocks,
    "lora": LoRA,
    "soft_prompt": SoftPrompt,
}

__all__ = ["METHODS", "AnyMethod", "Method"]
