"""Keys and values of the tokens a model has read, so that a new token is all it has to compute.

A row holds a sequence. Rows end in the same column, however long they are: prompts stand flush
right, and every row goes on in the next column, so a step is written with one slice and a window
of the last tokens is one slice too. What lies left of a row's first token is never seen.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ROWS_AT_ONCE = 4
"""Rows that a processor attends to together: few enough for its cache, and of like length."""


class Part(NamedTuple):
    """Some rows that are looked at together."""

    rows: slice
    first: int
    """The first column that any of them uses."""
    mask: Tensor | None
    """(B, 1, 1, T), true for the columns from the first on that a row uses; None if it is all."""


class Cache:
    """The past of every layer.

    Args:
        lengths: of the prompts, in the order in which they will be read.
        room: how many tokens may follow a prompt.
        max_rows: how many rows there may be at once.
        num_before: how many keys and values, of a trained prefix, come before those of a prompt.
    """

    def __init__(
        self,
        num_layers: int,
        lengths: Sequence[int],
        room: int,
        max_rows: int,
        device: torch.device,
        num_before: int = 0,
    ) -> None:
        self.max_rows = max_rows
        self.num_before = num_before
        self.width = num_before + max(lengths)
        self.max_width = self.width + room
        self.device = device
        self.starts = [max(lengths) - length for length in lengths]
        self.parts: list[Part] = []
        self.layers = [Past(self) for _ in range(num_layers)]

    @property
    def first(self) -> int:
        """The first column that any row uses."""
        return min(self.starts)

    def advance(self) -> Tensor:
        """Open a column for the next token of every row and return their positions (B,)."""
        self.width += 1
        starts = torch.tensor(self.starts, device=self.device)  # (B,)
        size = ROWS_AT_ONCE if self.device.type == "cpu" else len(self.starts)
        self.parts = [
            self._part(slice(place, place + size), starts)
            for place in range(0, len(self.starts), size)
        ]
        return self.width - 1 - self.num_before - starts

    def _part(self, rows: slice, starts: Tensor) -> Part:
        first, last = min(self.starts[rows]), max(self.starts[rows])
        columns = torch.arange(first, self.width, device=self.device)  # (T,)
        mask = (columns >= starts[rows, None])[:, None, None] if first < last else None
        return Part(rows, first, mask)

    def keep(self, rows: Sequence[int]) -> None:
        """Make row i what row `rows[i]` was. Rows that stay in their place cost nothing."""
        self.starts = [self.starts[row] for row in rows]
        moves = [(to, source) for to, source in enumerate(rows) if to != source]
        if moves:
            to, source = torch.tensor(moves, device=self.device).T
            for layer in self.layers:
                for stored in (layer.keys, layer.values):
                    filled = stored[:, :, self.first : self.width]  # (B, H, T, K)
                    filled[to] = filled[source]

    def joined(self, other: "Cache", room: int) -> "Cache":
        """Return the rows of both caches as one, those of `other` last, all prompts being read.

        Args:
            room: how many tokens may still follow.
        """
        lengths = [*self._lengths, *other._lengths]
        layers, before = len(self.layers), self.num_before
        both = Cache(layers, lengths, room, len(lengths), self.device, before)
        for layer, *parts in zip(both.layers, self.layers, other.layers, strict=True):
            layer.take(parts)
        return both

    @property
    def _lengths(self) -> list[int]:
        """How many tokens each row holds."""
        return [self.width - self.num_before - start for start in self.starts]


class Past:
    """Keys and values of one layer, as attention meets them."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.num_read = 0
        self.num_prompts = len(cache.starts)
        self.keys: Tensor
        self.values: Tensor

    @property
    def is_reading(self) -> bool:
        """Whether what comes next are prompts, and not yet one token of every row."""
        return self.num_read < self.num_prompts

    def read(self, key: Tensor, value: Tensor) -> None:
        """Write down the next prompts, (B, H, T, K) all of one length."""
        num_prompts, _, length, _ = key.shape
        if self.num_read == 0:
            self._make_room(key)
        rows = slice(self.num_read, self.num_read + num_prompts)
        columns = slice(self.cache.width - length, self.cache.width)
        self.keys[rows, :, columns] = key
        self.values[rows, :, columns] = value
        self.num_read += num_prompts

    def append(self, key: Tensor, value: Tensor) -> None:
        """Write down one token of every row, (B, H, 1, K), in the column that was opened."""
        self.keys[: len(key), :, self.cache.width - 1] = key.squeeze(2)
        self.values[: len(value), :, self.cache.width - 1] = value.squeeze(2)

    def seen(self, window: int | None) -> Iterator[tuple[slice, Tensor, Tensor, Tensor | None]]:
        """Yield some rows, the keys and values (B, H, T, K) that their last token sees, their mask.

        Args:
            window: how many tokens back a token sees, itself included.
        """
        width, num_rows = self.cache.width, len(self.cache.starts)
        for rows, start, mask in self.cache.parts:
            first = start if window is None else max(start, width - window)
            seen = None if mask is None else mask[..., first - start :]
            keys, values = (x[:num_rows][rows, :, first:width] for x in (self.keys, self.values))
            yield rows, keys, values, seen

    def take(self, parts: Sequence["Past"]) -> None:
        """Write down the rows of others, in their order."""
        self._make_room(parts[0].keys)
        for part in parts:
            num_rows, filled = len(part.cache.starts), slice(part.cache.first, part.cache.width)
            rows = slice(self.num_read, self.num_read + num_rows)
            columns = slice(self.cache.width - (filled.stop - filled.start), self.cache.width)
            self.keys[rows, :, columns] = part.keys[:num_rows, :, filled]
            self.values[rows, :, columns] = part.values[:num_rows, :, filled]
            self.num_read += num_rows

    def _make_room(self, like: Tensor) -> None:
        """Make the store, for keys and values (B, H, T, K) of this kind."""
        _, num_heads, _, head_dim = like.shape
        # Zeros: a masked weight is 0, and 0 times whatever lay in memory need not be.
        shape = (self.cache.max_rows, num_heads, self.cache.max_width, head_dim)
        self.keys, self.values = like.new_zeros(shape), like.new_zeros(shape)
