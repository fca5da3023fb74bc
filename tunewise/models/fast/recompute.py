"""Recomputation: the backward pass computes outputs of norms and activations again.

They cost little to compute, and their inputs are kept in any case, for their own gradients. The
layers after them, whichever a method has put there, save their inputs as any layer does; a hook
decides what is really kept when autograd saves a tensor.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

WORTH_IT = 2**20
"""Smallest size of states, in bytes, at which this is done: smaller ones take little memory, and
keeping them is faster."""

Key = tuple[int, torch.Size]
P = ParamSpec("P")


class _Output:
    """A tensor that is computed again when it is needed, once for all layers that have kept it."""

    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Any, ...], y: Tensor):
        self._function = function
        self._arguments = [a.detach() if isinstance(a, Tensor) else a for a in arguments]
        self.y: Tensor | None = y
        """The output, kept only until the hook has recognised it by its address."""
        self.num_kept = 0

    def tensor(self) -> Tensor:
        """Return the output again; the last call drops it."""
        y = self._function(*self._arguments) if self.y is None else self.y
        self.num_kept -= 1
        self.y = y if self.num_kept > 0 else None
        return y


_outputs: ContextVar[dict[Key, _Output] | None] = ContextVar("_outputs", default=None)


def recomputed(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Return the function; inside `recomputing`, its output is not kept for the backward pass.

    Args:
        function: of positional arguments; it must be deterministic, and must save the tensors among
            its arguments for its own gradient in any case.
    """

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> Tensor:
        assert not named
        y = function(*arguments, **named)
        outputs = _outputs.get()
        if outputs is not None and y.requires_grad:
            outputs[_key(y)] = _Output(function, arguments, y)
        return y

    return call


@contextmanager
def recomputing(states: Tensor) -> Iterator[None]:
    """Let the backward pass of the block compute `recomputed` outputs again.

    Args:
        states: (N, D), the input, whose size says how much would be kept.
    """
    if states.nbytes < WORTH_IT:
        yield
        return
    outputs: dict[Key, _Output] = {}

    def keep(tensor: Tensor) -> Tensor | _Output:
        output = outputs.get(_key(tensor))
        if output is None:
            return tensor
        output.num_kept += 1
        return output

    def give(kept: Tensor | _Output) -> Tensor:
        return kept.tensor() if isinstance(kept, _Output) else kept

    token = _outputs.set(outputs)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, give):
            yield
    finally:
        _outputs.reset(token)
        for output in outputs.values():
            output.y = None


def _key(tensor: Tensor) -> Key:
    """Return the address and shape of a tensor, which no other tensor that is alive shares."""
    return tensor.data_ptr(), tensor.shape
