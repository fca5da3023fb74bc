"""Empty results of PyTorch's operations: their shapes, types and strides, written by hand.

A rehearsal computes nothing, but it has to know the shape, the type and the strides of each result.
Each function here takes the arguments of an operation of `torch.ops.aten` and returns its results
as tensors on the meta device, which hold no numbers. `EMPTY_RESULTS` says which function belongs to
which operation.

PyTorch has such functions too, but many of them import its compiler, which costs every run a second
and 70 MB of memory. So those that our models use are written down here; for any other operation
`rehearsal` asks PyTorch. A test compares each with the results of the operation itself.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor


def _new(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _like(x: Tensor, *_: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
    """Return a tensor of x's shape, with its axes in the same order in memory."""
    wanted = kwargs.get("memory_format") or torch.preserve_format
    if x.is_contiguous() or wanted == torch.contiguous_format:
        return _new(x.shape, dtype or x.dtype)
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    back = [order.index(axis) for axis in range(x.ndim)]
    return _new([x.shape[axis] for axis in order], dtype or x.dtype).permute(back)


def _pointwise(*args: Any, **_: Any) -> Tensor:
    """Return the result of an elementwise operation on tensors that are broadcast."""
    operands = [value for value in args if isinstance(value, (Tensor, int, float))]
    tensors = [value for value in operands if isinstance(value, Tensor)]
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    first, *others = operands
    dtype = torch.result_type(first, others[0]) if others else tensors[0].dtype
    whole = next((tensor for tensor in tensors if tensor.shape == shape), None)
    return _new(shape, dtype) if whole is None else _like(whole, dtype=dtype)


def _where(condition: Tensor, x: Tensor, other: Tensor) -> Tensor:
    shape = np.broadcast_shapes(condition.shape, x.shape, other.shape)
    return _new(shape, torch.promote_types(x.dtype, other.dtype))


def _dropout(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _like(x), _like(x, dtype=torch.bool)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return (..., M, N) of (..., M, K) and (K, N) or (..., K, N)."""
    return _new((*a.shape[:-1], b.shape[-1]), a.dtype)


def _cat(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return _new(shape, reduce(torch.promote_types, (part.dtype for part in parts)))


def _stack(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    shape = list(parts[0].shape)
    shape.insert(dim % (len(shape) + 1), len(parts))
    return _new(shape, parts[0].dtype)


def _reduce(
    x: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    dims = range(x.ndim) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    gone = {axis % x.ndim for axis in dims} if x.ndim else set()
    shape = [1 if axis in gone else size for axis, size in enumerate(x.shape)]
    kept = [size for axis, size in enumerate(shape) if keepdim or axis not in gone]
    return _new(kept, dtype or x.dtype)


def _layer_norm(
    x: Tensor, normalized: Sequence[int], weight: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output of a layer norm, the means, and the reciprocal standard deviations."""
    outer = [*x.shape[: -len(normalized)], *(1 for _ in normalized)]
    return _new(x.shape, x.dtype), _new(outer, weight.dtype), _new(outer, weight.dtype)


def _layer_norm_backward(
    grad: Tensor,
    x: Tensor,
    _normalized: Sequence[int],
    _mean: Tensor,
    _rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    parts = zip((x, weight, bias), wanted, strict=True)
    return tuple(_new(part.shape, part.dtype) if is_wanted else None for part, is_wanted in parts)


def _attention(query: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    """Return the output (B, H, T, K), in memory as (B, T, H, K), and the log-sum-exps (B, H, T)."""
    heads = query.transpose(1, 2)
    mixed = _new(heads.shape, query.dtype).transpose(1, 2)
    return mixed, _new(heads.shape[:3], torch.float32).transpose(1, 2)


def _attention_backward(grad: Tensor, *parts: Tensor, **_: Any) -> tuple[Tensor, ...]:
    shapes = [part.transpose(1, 2).shape for part in parts[:3]]
    return tuple(_new(shape, grad.dtype).transpose(1, 2) for shape in shapes)


def _nll_loss(
    x: Tensor, targets: Tensor, _weight: Tensor | None, reduction: int, _ignored: int
) -> tuple[Tensor, Tensor]:
    """Return the loss, one per target if it is not reduced, and the total weight."""
    return _new(() if reduction else targets.shape, x.dtype), _new((), x.dtype)


def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """Return what `x[indices]` chooses, for indices that are integers on neighbouring axes."""
    before = next(axis for axis, index in enumerate(indices) if index is not None)
    shape = np.broadcast_shapes(*(index.shape for index in indices if index is not None))
    return _new((*x.shape[:before], *shape, *x.shape[len(indices) :]), x.dtype)


POINTWISE = """
    add sub mul div sqrt rsqrt square pow neg reciprocal clamp sigmoid tanh gelu gelu_backward
"""
LIKE_FIRST_ARGUMENT = """
    clone _to_copy empty_like zeros_like ones_like index_put index_add dropout tril triu
    softmax _softmax log_softmax _log_softmax _safe_softmax
"""

EMPTY_RESULTS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(POINTWISE.split(), _pointwise),
    **dict.fromkeys(LIKE_FIRST_ARGUMENT.split(), _like),
    "where": _where,
    "_softmax_backward_data": lambda grad, *_: _like(grad),
    "linalg_vector_norm": lambda x, _order=2, *dims, **kind: _reduce(x, *dims, **kind),
    "matmul": _matmul,
    "nll_loss_forward": _nll_loss,
    "index": _index,
    "index_select": lambda x, _dim, rows: _new((len(rows), *x.shape[1:]), x.dtype),
    "gather": lambda x, _dim, index, **_: _new(index.shape, x.dtype),
    "new_full": lambda x, size, _value, **_: _new(size, x.dtype),
    "embedding": lambda weight, ids, *_: _new((*ids.shape, weight.shape[1]), weight.dtype),
    "embedding_dense_backward": lambda grad, _ids, size, *_: _new(
        (size, grad.shape[-1]), grad.dtype
    ),
    "native_dropout": _dropout,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": lambda _bias, a, b: _matmul(a, b),
    "linear": lambda x, weight, _bias=None: _matmul(x, weight.t()),
    "cat": _cat,
    "stack": _stack,
    "sum": _reduce,
    "argmax": partial(_reduce, dtype=torch.int64),
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
    "layer_norm": lambda x, *_: _new(x.shape, x.dtype),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}
"""The function that returns the empty results of an operation, by the operation's name."""
