"""Causal attention over packed tokens: many sequences in one flat row, none looking into another.

Sequences of equal length that lie next to each other form a run, and a run is one call of the fused
kernel on a (sequences, heads, length, head_dim) view. Nothing is padded: `pack` puts sequences of
equal length side by side, and in language modelling almost all have the same length.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tunewise.models.cache import Past
from tunewise.models.layers import Linear

fused_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
fused_attention_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

PIECE = 512
"""How many tokens a thread turns into fp32 at once: few enough for its cache."""


class Run(NamedTuple):
    """Neighbouring sequences of one length."""

    num_sequences: int
    length: int


def runs_of(segments: Tensor) -> list[Run]:
    """Return the runs of equal-length sequences in a packed row.

    Args:
        segments: (N,) the number of the sequence each token belongs to; neighbours of one sequence
            share it.
    """
    _, lengths = torch.unique_consecutive(segments, return_counts=True)
    length, count = torch.unique_consecutive(lengths, return_counts=True)
    return [Run(*pair) for pair in zip(count.tolist(), length.tolist(), strict=True)]


class Prefix(nn.Module):
    """Trained keys and values before those of every sequence (https://arxiv.org/abs/2101.00190).

    They take part as P more tokens would, whose own outputs are dropped: so the mask stays the
    square causal one, which the kernels know by themselves.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys = nn.Parameter(keys)  # (P, D)
        self.values = nn.Parameter(values)  # (P, D)

    def put_before(
        self, query: Tensor, key: Tensor, value: Tensor, runs: list[Run]
    ) -> tuple[Tensor, Tensor, Tensor, list[Run]]:
        """Return all with P rows more for each of S sequences: (N, D) becomes (N + S·P, D)."""
        lengths = _lengths(runs)

        def longer(rows: Tensor, x: Tensor) -> Tensor:
            rows = rows.to(x.dtype)
            return torch.cat([part for own in torch.split(x, lengths) for part in (rows, own)])

        queries = torch.zeros_like(self.keys)
        parts = longer(queries, query), longer(self.keys, key), longer(self.values, value)
        return *parts, [Run(count, len(self.keys) + length) for count, length in runs]

    def take_off(self, mixed: Tensor, runs: list[Run]) -> Tensor:
        """Return the rows of the sequences' own tokens: (N, D) from (N + S·P, D)."""
        sizes = [size for length in _lengths(runs) for size in (len(self.keys), length)]
        return torch.cat(torch.split(mixed, sizes)[1::2])


def _lengths(runs: list[Run]) -> list[int]:
    """Return the length of each sequence."""
    return [length for num_sequences, length in runs for _ in range(num_sequences)]


class Attention(nn.Module):
    """softmax(scale · Q Kᵀ + mask) V in H heads (https://arxiv.org/abs/1706.03762).

    Args:
        scale: factor of the logits; None is 1 / sqrt(head_dim).
        window: how many tokens back a token sees, itself included; None sees the whole sequence.
        input_bias: whether query, key and value carry a bias.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        scale: float | None = None,
        window: int | None = None,
        input_bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.window = window
        self.dropout = 0.0
        self.query = Linear(model_dim, model_dim, bias=input_bias)
        self.key = Linear(model_dim, model_dim, bias=input_bias)
        self.value = Linear(model_dim, model_dim, bias=input_bias)
        self.out = Linear(model_dim, model_dim)
        self.prefix: Prefix | None = None

    def forward(
        self, x: Tensor, runs: list[Run], past: Past | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Return (N, D) from (N, D).

        Args:
            past: keys and values of what came before, which those of `x` are added to.
            rows: (M,) those that are wanted, and returned as (M, D); without it, all.
        """
        mixed = self.mix(self.query(x), self.key(x), self.value(x), runs, past)
        y: Tensor = self.out(mixed if rows is None else mixed.index_select(0, rows))
        return y

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, runs: list[Run], past: Past | None
    ) -> Tensor:
        """Return the values (N, D) that each token sees, weighted, from (N, D) each."""
        if self.prefix is None or (past is not None and not past.is_reading):
            return self._mix(query, key, value, runs, past)
        mixed = self._mix(*self.prefix.put_before(query, key, value, runs), past)
        return self.prefix.take_off(mixed, runs)

    def _mix(
        self, query: Tensor, key: Tensor, value: Tensor, runs: list[Run], past: Past | None
    ) -> Tensor:
        if past is not None and not past.is_reading:
            return self._step(query, key, value, past)
        sizes = [num_sequences * length for num_sequences, length in runs]
        if past is not None:
            parts = torch.split(key, sizes), torch.split(value, sizes)
            for run, *read in zip(runs, *parts, strict=True):
                past.read(*(_heads(part, run, self.num_heads) for part in read))
        dropout = self.dropout if self.training else 0.0
        if query.device.type == "cpu" and dropout == 0:
            mixed: Tensor = _FusedOnCPU.apply(  # type: ignore[no-untyped-call]  # torch has no types here
                query, key, value, runs, self.num_heads, self.window, self.scale
            )
            return mixed
        # The backward of a split is one concatenation; that of a slice fills an (N, D) each.
        queries, keys, values = (torch.split(_wide(part), sizes) for part in (query, key, value))
        each = zip(queries, keys, values, runs, strict=True)
        mixed = torch.cat([self._attend(q, k, v, run, dropout) for q, k, v, run in each])
        return mixed.to(query.dtype)

    def _step(self, query: Tensor, key: Tensor, value: Tensor, past: Past) -> Tensor:
        """Return (B, D) from (B, D): one token of each of B rows, and what it sees of its row."""
        run = Run(len(query), 1)
        query, key, value = (_heads(part, run, self.num_heads) for part in (query, key, value))
        past.append(key, value)
        mixed = [
            F.scaled_dot_product_attention(
                _wide(query[rows]), _wide(keys), _wide(values), attn_mask=mask, scale=self.scale
            )
            for rows, keys, values, mask in past.seen(self.window)
        ]
        return _joined(torch.cat(mixed)).to(query.dtype)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, run: Run, dropout: float
    ) -> Tensor:
        """Return (B·T, D) from (B·T, D): one run of B sequences of T tokens."""
        query, key, value = (_heads(part, run, self.num_heads) for part in (query, key, value))
        mask = _band(run.length, self.window, query)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None and run.length > 1,
            dropout_p=dropout,
            scale=self.scale,
        )  # (B, H, T, K)
        return _joined(mixed)


class _FusedOnCPU(torch.autograd.Function):
    """Attention over all runs as one step of the graph, by the fused kernel of the CPU.

    The kernel is as fast in fp32 as in bf16 on long sequences, and its backward ten times as fast
    on short ones. By F.scaled_dot_product_attention its inputs and output would be kept in fp32;
    here they are kept as they came, and turned into fp32 again run by run. (N, D) all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        runs: list[Run],
        num_heads: int,
        window: int | None,
        scale: float | None,
    ) -> Tensor:
        mixed = torch.empty_like(query)
        log_sums = []
        for rows, piece in _pieces(runs):
            parts = []
            for run, *heads in _heads_of(piece, num_heads, query[rows], key[rows], value[rows]):
                mask = _band(run.length, window, heads[0])
                part, log_sum = fused_attention(
                    *heads, is_causal=mask is None, attn_mask=mask, scale=scale
                )
                parts.append(_joined(part))
                log_sums.append(log_sum)  # (B, H, T)
            mixed[rows] = torch.cat(parts)
        ctx.save_for_backward(query, key, value, mixed, *log_sums)
        ctx.settings = runs, num_heads, window, scale
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mixed, *log_sums = ctx.saved_tensors
        runs, num_heads, window, scale = ctx.settings
        gradients = [torch.empty_like(query) for _ in range(3)]
        remaining = iter(log_sums)
        for rows, piece in _pieces(runs):
            kept = (part[rows] for part in (grad, query, key, value, mixed))
            parts = []
            for run, *heads in _heads_of(piece, num_heads, *kept):
                mask = _band(run.length, window, heads[0])
                found = fused_attention_backward(
                    *heads,
                    next(remaining),
                    dropout_p=0.0,
                    is_causal=mask is None,
                    attn_mask=mask,
                    scale=scale,
                )
                parts.append([_joined(part) for part in found])
            for gradient, found in zip(gradients, zip(*parts, strict=True), strict=True):
                gradient[rows] = torch.cat(found)
        return *gradients, None, None, None, None


def _pieces(runs: list[Run]) -> Iterator[tuple[slice, list[Run]]]:
    """Yield where some tokens are, and their runs; long runs are parted between sequences."""
    most = PIECE * torch.get_num_threads()
    start, end = 0, 0
    piece: list[Run] = []
    for num_sequences, length in runs:
        at_once = max(1, most // length)
        for first in range(0, num_sequences, at_once):
            run = Run(min(at_once, num_sequences - first), length)
            size = run.num_sequences * length
            if piece and end + size - start > most:
                yield slice(start, end), piece
                start, piece = end, []
            piece.append(run)
            end += size
    yield slice(start, end), piece


def _heads_of(runs: list[Run], num_heads: int, *parts: Tensor) -> Iterator[Any]:
    """Yield each run and its part (B, H, T, K) of every (N, D), with fp32 in place of bf16."""
    sizes = [num_sequences * length for num_sequences, length in runs]
    wide = (torch.split(_wide(part), sizes) for part in parts)
    for run, *of_run in zip(runs, *wide, strict=True):
        yield run, *(_heads(part, run, num_heads) for part in of_run)


def _wide(x: Tensor) -> Tensor:
    """Return x in fp32 if it is in bf16, which a processor's kernels are slow in on short runs."""
    if x.device.type != "cpu":
        return x
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _heads(x: Tensor, run: Run, num_heads: int) -> Tensor:
    """Return (B, H, T, K) from (B·T, D)."""
    return x.view(run.num_sequences, run.length, num_heads, -1).transpose(1, 2)


def _joined(heads: Tensor) -> Tensor:
    """Return (B·T, D) from (B, H, T, K)."""
    return heads.transpose(1, 2).flatten(2).flatten(0, 1)


def _band(length: int, window: int | None, like: Tensor) -> Tensor | None:
    """Return (T, T), 0 where a token (row) sees another (column) and -inf where it does not.

    It sees those with 0 <= row - column < window; None if that is all of the past.
    """
    if window is None or length <= window:
        return None
    hidden = like.new_full((length, length), -torch.inf)
    return hidden.triu(1) + hidden.tril(-window)
