"""A rehearsal: real code run on empty tensors, to count its memory and its operations.

Memory that is allocated and never touched costs nothing. So every tensor is made in its true size,
but no operation on floating-point numbers is computed. All tensors that are alive at once and the
work of each operation are counted as in a real run. Integers (tokens, positions, lengths) are few
and decide what the code does, so operations on them are computed.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tunewise.estimate.heap import Heap
from tunewise.estimate.operations import EMPTY_RESULTS

aten = torch.ops.aten

MAX_ZEROED = 4096
"""Numbers in the largest tensor that is filled with zeros, for code that looks at values."""


class Operation(NamedTuple):
    """The work of one operation."""

    num_flops: int
    """Additions and multiplications of a matrix product; 0 for any other operation."""
    num_bytes: int
    """Bytes that it reads and writes."""
    dtype: torch.dtype
    """Type of its first tensor."""
    shapes: tuple[torch.Size, ...] = ()
    """Shapes of the tensors that a matrix product multiplies."""


class Rehearsal(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """A mode of PyTorch: in its `with` block nothing is computed and everything is counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held_bytes = 0
        """Bytes of the tensors that are alive."""
        self.peak_bytes = 0
        """Largest value of `held_bytes` so far."""
        self.heap = Heap()
        """The heap on which all tensors of this block are placed."""
        self.operations: list[Operation] = []

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made before and stay alive, each storage once."""
        storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
        self.held_bytes += sum(storage.nbytes() for storage in storages.values())

    def operations_of(self, part: Callable[..., object], *args: Any) -> list[Operation]:
        """Call a function, and return the operations that it takes."""
        num_before = len(self.operations)
        part(*args)
        return self.operations[num_before:]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, so that PyTorch does not import its compiler, which takes a second."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the results of one operation without computing it, and count it."""
        kwargs = dict(kwargs or {})
        inputs = [*_tensors(args), *_tensors(kwargs.values())]
        if not any(tensor.is_floating_point() for tensor in inputs):
            return func(*args, **kwargs)
        if func.is_view:
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            return 0.0
        if func._schema.is_mutable:
            out = kwargs.get("out", args[0]) if func._schema.returns else None
        else:
            out = self._empty_results(func, args, kwargs)
        num_bytes = sum(tensor.nbytes for tensor in (*inputs, *_tensors([out])))
        flops = FLOPS.get(func.overloadpacket.__name__.removesuffix("_"))
        counts = (flops(args), num_bytes) if flops else (0, num_bytes)
        shapes = tuple(tensor.shape for tensor in inputs) if flops else ()
        self.operations.append(Operation(*counts, inputs[0].dtype, shapes))
        return out

    def _empty_results(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Return the results of an operation, right in everything but their values."""
        if func in (aten.index.Tensor, aten.index_put.default):
            args = [args[0], _replace_masks(args[1]), *args[2:]]  # a mask says how many are chosen
        known = EMPTY_RESULTS.get(func.overloadpacket.__name__)
        if known is not None:
            return _map_tensors(self._allocate, known(*args, **kwargs))
        if "device" in kwargs:
            kwargs["device"] = "meta"
        meta_args = [_map_tensors(_to_meta, value) for value in args]
        meta_kwargs = {name: _map_tensors(_to_meta, value) for name, value in kwargs.items()}
        return _map_tensors(self._allocate, func(*meta_args, **meta_kwargs))

    def _allocate(self, meta: Tensor) -> Tensor:
        """Return an empty tensor on the CPU, like one on the meta device."""
        size, stride = meta.shape, meta.stride()
        made = torch.empty_strided(size, stride, dtype=meta.dtype, device="cpu")
        if made.numel() <= MAX_ZEROED or not made.is_floating_point():
            made.zero_()
        self._count_memory(made)
        return made

    def _count_memory(self, tensor: Tensor) -> None:
        """Count a tensor's memory until it is freed."""
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


def _map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return an argument or a result with each of its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_map_tensors(change, part) for part in value)
    return value


def _to_meta(tensor: Tensor) -> Tensor:
    """Return a tensor on the meta device, which has no memory."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _replace_masks(indices: Iterable[Tensor | None]) -> list[Tensor | None]:
    """Return indices with each mask replaced by the positions that it chooses."""
    numbers: list[Tensor | None] = []
    for index in indices:
        is_mask = index is not None and index.dtype == torch.bool
        numbers += index.nonzero().unbind(1) if is_mask and index is not None else [index]
    return numbers


def _count_product(first: int) -> Callable[[Sequence[Any]], int]:
    """Return a counter for the product of argument number `first` and the next one."""

    def count(args: Sequence[Any]) -> int:
        a, b = args[first], args[first + 1]
        return int(2 * a.numel() * b.shape[-1])  # (..., M, K) @ (..., K, N)

    return count


def _count_linear(args: Sequence[Any]) -> int:
    x, weight = args[:2]  # (..., in), (out, in)
    return int(2 * x.numel() * weight.shape[0])


def _count_attention(products: int, first: int = 0) -> Callable[[Sequence[Any]], int]:
    """Return a counter for some products of the size of Q Kᵀ, of each of which half is masked."""

    def count(args: Sequence[Any]) -> int:
        query, key = args[first], args[first + 1]  # (B, H, T, K), (B, H, S, K)
        return int(query.numel() * key.shape[2] * products)

    return count


FLOPS: dict[str, Callable[[Sequence[Any]], int]] = {
    "mm": _count_product(0),
    "matmul": _count_product(0),
    "bmm": _count_product(0),
    "addmm": _count_product(1),
    "baddbmm": _count_product(1),
    "linear": _count_linear,
    "_scaled_dot_product_flash_attention_for_cpu": _count_attention(2),
    "_scaled_dot_product_flash_attention_for_cpu_backward": _count_attention(5, first=1),
}
"""Counters of the floating-point operations of an operation, given its arguments."""
