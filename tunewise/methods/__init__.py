"""The methods, one file each. To add one, write its file and name it in `AnyMethod`."""

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
from tunewise.settings import union_by_kind

AnyMethod = Annotated[
    Full | LastLayer | LastBlocks | LoRA | SoftPrompt | PrefixTuning | IA3 | BitFit | Adapter,
    Field(discriminator="kind"),
]

METHODS: dict[str, type[Method]] = union_by_kind(AnyMethod)
"""The methods of `AnyMethod` by their kinds, in its order."""

__all__ = ["METHODS", "AnyMethod", "Method"]
