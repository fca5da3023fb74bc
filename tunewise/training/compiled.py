"""Blocks through torch.compile, for training."""

from collections.abc import Callable

import torch
from torch import Tensor

from tunewise.errors import ConfigError
from tunewise.models import LanguageModel
from tunewise.models.attention import Run
from tunewise.models.cache import Past
from tunewise.models.language_model import Block


def compile_blocks(model: LanguageModel) -> None:
    """Have the blocks compiled as they are first trained; they evaluate and write as they were.

    The number of tokens differs from pass to pass, so shapes are dynamic. Attention is left out:
    its runs of equal lengths are hardly ever the same twice, and each would be compiled anew.

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
        block.forward = _compiled_in_training(block)  # type: ignore[method-assign]


def _compiled_in_training(block: Block) -> Callable[..., Tensor]:
    plain = block.forward
    compiled = torch.compile(plain, dynamic=True)

    def forward(
        x: Tensor, runs: list[Run], past: Past | None = None, rows: Tensor | None = None
    ) -> Tensor:
        return (compiled if block.training else plain)(x, runs, past, rows)

    return forward
