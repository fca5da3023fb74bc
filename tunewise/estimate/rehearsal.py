"""Code run on tensors that hold nothing, to see what it would take.

Memory that is asked for and never touched costs nothing. So every tensor is made in its true size,
no operation on floating-point numbers is computed, and what is counted is what the real thing asks
for: all tensors that are alive at once, and the work of each operation. Whole numbers (tokens,
positions, lengths) are few, decide what is done, and are computed.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tunewise.estimate.heap import Heap
from tunewise.estimate.operations import RESULTS

aten = torch.ops.aten

SMALL = 4096
"""Numbers in a tensor up to which it is filled with zeros, for code that looks at values."""


class Operation(NamedTuple):
    """The work of one operation."""

    num_flops: int
    """Additions and multiplications of matrix products; 0 for anything else."""
    num_bytes: int
    """Of all that it reads and writes."""
    dtype: torch.dtype
    """What its first tensor holds."""
    shapes: tuple[torch.Size, ...] = ()
    """Of what a matrix product multiplies."""


class Rehearsal(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """While its `with` block lasts, nothing is computed and everything counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held_bytes = 0
        """Of the tensors that are alive."""
        self.peak_bytes = 0
        """The most of that."""
        self.heap = Heap()
        """Where what was made since the beginning lies."""
        self.operations: list[Operation] = []

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were there before and stay, each storage once."""
        storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
        self.held_bytes += sum(storage.nbytes() for storage in storages.values())

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, so PyTorch's compiler, which takes a second, stays away."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Stand in for one operation."""
        kwargs = dict(kwargs or {})
        given = [*_tensors(args), *_tensors(kwargs.values())]
        if not any(tensor.is_floating_point() for tensor in given):
            return func(*args, **kwargs)
        if func.is_view:
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            return 0.0
        if func._schema.is_mutable:
            out = kwargs.get("out", args[0]) if func._schema.returns else None
        else:
            out = self._made(func, args, kwargs)
        num_bytes = sum(tensor.nbytes for tensor in (*given, *_tensors([out])))
        flops = FLOPS.get(func.overloadpacket.__name__.removesuffix("_"))
        counts = (flops(args), num_bytes) if flops else (0, num_bytes)
        shapes = tuple(tensor.shape for tensor in given) if flops else ()
        self.operations.append(Operation(*counts, given[0].dtype, shapes))
        return out

    def _made(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Return the results of an operation: right in everything but their values."""
        if func in (aten.index.Tensor, aten.index_put.default):
            args = [args[0], _by_number(args[1]), *args[2:]]  # how many are chosen is in the mask
        known = RESULTS.get(func.overloadpacket.__name__)
        if known is not None:
            return _each(self._hollow, known(*args, **kwargs))
        if "device" in kwargs:
            kwargs["device"] = "meta"
        shapes = {name: _each(_shape, value) for name, value in kwargs.items()}
        return _each(self._hollow, func(*(_each(_shape, value) for value in args), **shapes))

    def _hollow(self, shape: Tensor) -> Tensor:
        """Return a tensor of this shape, on the CPU."""
        size, stride = shape.shape, shape.stride()
        made = torch.empty_strided(size, stride, dtype=shape.dtype, device="cpu")
        if made.numel() <= SMALL or not made.is_floating_point():
            made.zero_()
        self._hold(made)
        return made

    def _hold(self, tensor: Tensor) -> None:
        """Count a tensor's memory until it is given back."""
        storage = tensor.untyped_storage()
        num_bytes = storage.nbytes()
        self.held_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)
        address = self.heap.take(num_bytes)
        weakref.finalize(storage, self._release, address, num_bytes).atexit = False

    def _release(self, address: int, num_bytes: int) -> None:
        self.held_bytes -= num_bytes
        self.heap.give_back(address, num_bytes)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among an operation's arguments or results, and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return an argument or a result with its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_each(change, part) for part in value)
    return value


def _shape(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _by_number(indices: Iterable[Tensor | None]) -> list[Tensor | None]:
    """Return indices with the places of what a mask chooses in place of the mask."""
    numbers: list[Tensor | None] = []
    for index in indices:
        is_mask = index is not None and index.dtype == torch.bool
        numbers += index.nonzero().unbind(1) if is_mask and index is not None else [index]
    return numbers


def _product(first: int) -> Callable[[Sequence[Any]], int]:
    """Return the count of a product of the arguments number `first` and the one after it."""

    def count(args: Sequence[Any]) -> int:
        a, b = args[first], args[first + 1]
        return int(2 * a.numel() * b.shape[-1])  # (..., M, K) @ (..., K, N)

    return count


def _linear(args: Sequence[Any]) -> int:
    x, weight = args[:2]  # (..., in), (out, in)
    return int(2 * x.numel() * weight.shape[0])


def _attention(products: int, first: int = 0) -> Callable[[Sequence[Any]], int]:
    """Return the count of so many products of the size of Q Kᵀ, of which half is masked."""

    def count(args: Sequence[Any]) -> int:
        query, key = args[first], args[first + 1]  # (B, H, T, K), (B, H, S, K)
        return int(query.numel() * key.shape[2] * products)

    return count


FLOPS: dict[str, Callable[[Sequence[Any]], int]] = {
    "mm": _product(0),
    "matmul": _product(0),
    "bmm": _product(0),
    "addmm": _product(1),
    "baddbmm": _product(1),
    "linear": _linear,
    "_scaled_dot_product_flash_attention_for_cpu": _attention(2),
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention(5, first=1),
}
"""Floating-point operations, by operation, from its arguments."""
