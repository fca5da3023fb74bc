"""What the backward pass makes again rather than keep: the outputs of norms and activations.

They cost little to compute, and their inputs are kept in any case, for their own gradients. The
layers after them, whichever a method has put there, keep their inputs as any layer does; what is
really kept is decided here, as autograd is about to keep it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

WORTH_IT = 2**20
"""How many bytes the states have to have: what is small takes little room, and is quicker kept."""

Key = tuple[int, torch.Size]


class _Again:
    """A tensor that is computed anew when it is needed, once for all layers that have kept it."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> None:
        self._function, self._x = function, x.detach()
        self.y: Tensor | None = y
        """The output, for as long as it is recognised by."""
        self.num_kept = 0

    def tensor(self) -> Tensor:
        """Return the output again; the last call drops it."""
        y = self._function(self._x) if self.y is None else self.y
        self.num_kept -= 1
        self.y = y if self.num_kept > 0 else None
        return y


_outputs: ContextVar[dict[Key, _Again] | None] = ContextVar("_outputs", default=None)


def cheap(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return function(x), which inside `recomputing` is not kept for the backward pass.

    Args:
        function: draws nothing from chance, and keeps x for its own gradient.
    """
    y = function(x)
    outputs = _outputs.get()
    if outputs is not None and y.requires_grad:
        outputs[_key(y)] = _Again(function, x, y)
    return y


@contextmanager
def recomputing(states: Tensor) -> Iterator[None]:
    """Have the backward pass of what is computed inside make `cheap` outputs again.

    Args:
        states: (N, D) what goes in, which tells how much there would be to keep.
    """
    if states.nbytes < WORTH_IT:
        yield
        return
    outputs: dict[Key, _Again] = {}

    def keep(tensor: Tensor) -> Tensor | _Again:
        again = outputs.get(_key(tensor))
        if again is None:
            return tensor
        again.num_kept += 1
        return again

    def give(kept: Tensor | _Again) -> Tensor:
        return kept.tensor() if isinstance(kept, _Again) else kept

    token = _outputs.set(outputs)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, give):
            yield
    finally:
        _outputs.reset(token)
        for again in outputs.values():
            again.y = None


def _key(tensor: Tensor) -> Key:
    """Return what tells a tensor from all others that are alive."""
    return tensor.data_ptr(), tensor.shape
