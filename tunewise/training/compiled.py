"""Compiled blocks: torch.compile for training."""

from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor

from tunewise.errors import ConfigError
from tunewise.models import LanguageModel
from tunewise.models.language_model import Block

P = ParamSpec("P")


def compile_blocks(model: LanguageModel) -> None:
    """Compile each block when it is first trained; evaluation and generation stay uncompiled.

    The number of tokens differs from pass to pass, so shapes are dynamic. Attention is left out:
    its groups of equal lengths are hardly ever the same twice, and each would be compiled again.

    Raises:
        ConfigError: if there is no C++ compiler.
    """
    # Both take a second to import.
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigError(
            "train.compile: `on` needs a C++ compiler; install g++, name one in CXX, or choose off"
        ) from error
    for block in model.blocks:
        assert isinstance(block, Block)
        # mypy knows neither the function nor that one object's method may be replaced.
        block.attention.mix = torch.compiler.disable(block.attention.mix)  # type: ignore[no-untyped-call,method-assign]
        block.forward = _compiled_in_training(block, block.forward)  # type: ignore[method-assign]
        block.forward_rows = _compiled_in_training(block, block.forward_rows)  # type: ignore[method-assign]


def _compiled_in_training(block: Block, plain: Callable[P, Tensor]) -> Callable[P, Tensor]:
    compiled = torch.compile(plain, dynamic=True)

    def forward(*arguments: P.args, **named: P.kwargs) -> Tensor:
        return (compiled if block.training else plain)(*arguments, **named)

    return forward
