"""The key-value cache: keys and values of earlier tokens, so that only new ones are computed.

A row holds a sequence. Rows end in the same column, however long they are: prompts are aligned to
the right, and every row continues in the next column, so a step is written with one slice, and a
window of the last tokens is one slice too. Columns left of a row's first token are never seen.

Shapes: B rows, H heads, T columns, K head_dim.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ROWS_AT_ONCE = 4
"""Rows that a CPU attends to together: few enough for its cache, and of similar length."""


class Part(NamedTuple):
    """Neighbouring rows that attention computes together."""

    rows: slice
    first: int
    """The first column that any of the rows uses."""
    mask: Tensor | None
    """(B, 1, 1, T): which columns, from the first on, belong to each row; None if all do."""


class Cache:
    """Keys and values of every layer.

    Args:
        lengths: lengths of the prompts, in the order in which they will be read.
        room: maximum number of tokens after a prompt.
        max_rows: maximum number of rows at once.
        num_before: number of keys and values of a trained prefix before those of a prompt.
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
        """Open a column for the next token of every row and return the tokens' positions (B,)."""
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
        """Replace row i by row `rows[i]`, for all i; only rows that move are copied."""
        self.starts = [self.starts[row] for row in rows]
        moves = [(to, source) for to, source in enumerate(rows) if to != source]
        if moves:
            to, source = torch.tensor(moves, device=self.device).T
            for layer in self.layers:
                for stored in (layer.keys, layer.values):
                    filled = stored[:, :, self.first : self.width]  # (B, H, T, K)
                    filled[to] = filled[source]

    def join(self, other: "Cache", room: int) -> "Cache":
        """Return one cache with the rows of both, those of `other` last.

        All prompts of both must have been read.

        Args:
            room: maximum number of tokens that may still follow.
        """
        lengths = [*self._lengths, *other._lengths]
        both = Cache(
            len(self.layers),
            lengths,
            room=room,
            max_rows=len(lengths),
            device=self.device,
            num_before=self.num_before,
        )
        for layer, *sources in zip(both.layers, self.layers, other.layers, strict=True):
            layer.copy_rows(sources)
        return both

    @property
    def _lengths(self) -> list[int]:
        """Number of tokens in each row."""
        return [self.width - self.num_before - start for start in self.starts]


class Past:
    """Keys and values of one layer, as attention reads and extends them."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.num_read = 0
        self.num_prompts = len(cache.starts)
        self.keys: Tensor
        self.values: Tensor

    @property
    def is_reading(self) -> bool:
        """Whether prompts come next, and not yet one token of every row."""
        return self.num_read < self.num_prompts

    def read(self, key: Tensor, value: Tensor) -> None:
        """Store the keys and values (B, H, T, K) of the next prompts, all of one length."""
        num_prompts, _, length, _ = key.shape
        if self.num_read == 0:
            self._make_room(key)
        rows = slice(self.num_read, self.num_read + num_prompts)
        columns = slice(self.cache.width - length, self.cache.width)
        self.keys[rows, :, columns] = key
        self.values[rows, :, columns] = value
        self.num_read += num_prompts

    def append(self, key: Tensor, value: Tensor) -> None:
        """Store one token of every row, (B, H, 1, K), in the column that `advance` has opened."""
        self.keys[: len(key), :, self.cache.width - 1] = key.squeeze(2)
        self.values[: len(value), :, self.cache.width - 1] = value.squeeze(2)

    def seen(self, window: int | None) -> Iterator[tuple[slice, Tensor, Tensor, Tensor | None]]:
        """Yield groups of rows: the rows, the keys and values (B, H, T, K) they see, their mask.

        Args:
            window: number of tokens that a token sees, itself included; None for all.
        """
        width, num_rows = self.cache.width, len(self.cache.starts)
        for rows, start, mask in self.cache.parts:
            first = start if window is None else max(start, width - window)
            seen = None if mask is None else mask[..., first - start :]
            keys, values = (x[:num_rows][rows, :, first:width] for x in (self.keys, self.values))
            yield rows, keys, values, seen

    def copy_rows(self, sources: Sequence["Past"]) -> None:
        """Store the rows of other pasts of this layer, in their order."""
        self._make_room(sources[0].keys)
        for source in sources:
            num_rows = len(source.cache.starts)
            filled = slice(source.cache.first, source.cache.width)
            rows = slice(self.num_read, self.num_read + num_rows)
            columns = slice(self.cache.width - (filled.stop - filled.start), self.cache.width)
            self.keys[rows, :, columns] = source.keys[:num_rows, :, filled]
            self.values[rows, :, columns] = source.values[:num_rows, :, filled]
            self.num_read += num_rows

    def _make_room(self, like: Tensor) -> None:
        """Allocate keys and values for all rows; heads and precision are those of (B, H, T, K)."""
        _, num_heads, _, head_dim = like.shape
        # Zeros: a masked weight is 0, and 0 times whatever lay in memory need not be.
        shape = (self.cache.max_rows, num_heads, self.cache.max_width, head_dim)
        self.keys, self.values = like.new_zeros(shape), like.new_zeros(shape)


def compact_rows(ended: Sequence[bool]) -> list[int]:
    """Return the rows that have not ended, in an order for which `Cache.keep` copies few of them.

    The last rows move into the gaps of ended ones; all others stay in their place.
    """
    live = [row for row, has_ended in enumerate(ended) if not has_ended]
    rows = []
    for place in range(len(live)):
        rows.append(live.pop() if ended[place] else place)  # the last one that is left
    return rows
