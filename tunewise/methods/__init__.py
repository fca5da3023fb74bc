"""The methods, one file each. To add one, write its file and name it in `AnyMethod`."""

from typing import Annotated, get_args

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

_union, _ = get_args(AnyMethod)
METHODS: dict[str, type[Method]] = {
    method.model_fields["kind"].default: method for method in get_args(_union)
}
"""The methods of `AnyMethod` by their kinds, in its order."""

__all__ = ["METHODS", "AnyMethod", "Method"]
