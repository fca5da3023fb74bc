"""The methods, one file each. To add one, write its file and name it here."""

from typing import Annotated

from pydantic import Field

from tunewise.methods.adapter import Adapter
from tunewise.methods.bitfit import BitFit
from tunewise.methods.full import Full
from tunewise.methods.ia3 import IA3
from tunewise.methods.last_blocks import LastBlocks
from tunewise.methods.last_layer import LastLayer
from tunewise.methods.lora import LoRA
from tunewise.methods.method import Method
from tunewise.methods.prefix import PrefixTuning
from tunewise.methods.soft_prompt import SoftPrompt

AnyMethod = Annotated[
    Full | LastLayer | LastBlocks | LoRA | SoftPrompt | PrefixTuning | IA3 | BitFit | Adapter,
    Field(discriminator="kind"),
]

METHODS: dict[str, type[Method]] = {
    "full": Full,
    "last_layer": LastLayer,
    "last_blocks": LastBlocks,
    "lora": LoRA,
    "soft_prompt": SoftPrompt,
    "prefix": PrefixTuning,
    "ia3": IA3,
    "bitfit": BitFit,
    "adapter": Adapter,
}

__all__ = ["METHODS", "AnyMethod", "Method"]
