"""A model of the heap of the C library, to find how large it grows.

Freed blocks leave holes, and a later block may fit into none of them.
"""

from bisect import bisect_left, insort

ALIGNMENT = 64
"""Alignment of PyTorch's blocks on a CPU, in bytes."""


class Heap:
    """A heap that places large blocks as glibc does: in the smallest hole that fits, if any.

    Neighbouring holes are joined, and a hole at the end shortens the heap. See malloc(3) and
    "MallocInternals" of the glibc wiki.
    """

    def __init__(self) -> None:
        self.size = 0
        """Largest extent of the heap so far, in bytes."""
        self._end = 0
        self._holes: list[tuple[int, int]] = []  # (size, start), sorted
        self._by_start: dict[int, int] = {}
        self._by_end: dict[int, int] = {}

    def take(self, num_bytes: int) -> int:
        """Place a new block and return its address."""
        num_bytes = _round_up(num_bytes)
        place = bisect_left(self._holes, (num_bytes, 0))
        if place == len(self._holes):
            start, self._end = self._end, self._end + num_bytes
            self.size = max(self.size, self._end)
            return start
        size, start = self._holes[place]
        self._remove(size, start)
        if size > num_bytes:
            self._add(size - num_bytes, start + num_bytes)
        return start

    def give_back(self, start: int, num_bytes: int) -> None:
        """Free a block.

        Args:
            num_bytes: the size that was asked for.
        """
        size = _round_up(num_bytes)
        if (after := self._by_start.get(start + size)) is not None:
            self._remove(after, start + size)
            size += after
        if (before := self._by_end.get(start)) is not None:
            self._remove(before, start - before)
            start, size = start - before, size + before
        if start + size == self._end:
            self._end = start
        else:
            self._add(size, start)

    def _add(self, size: int, start: int) -> None:
        insort(self._holes, (size, start))
        self._by_start[start] = self._by_end[start + size] = size

    def _remove(self, size: int, start: int) -> None:
        del self._holes[bisect_left(self._holes, (size, start))]
        del self._by_start[start], self._by_end[start + size]


def _round_up(num_bytes: int) -> int:
    return max(1, -(-num_bytes // ALIGNMENT)) * ALIGNMENT
