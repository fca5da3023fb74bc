"""How far a heap grows: blocks that are given back leave holes, which the next may not fit into."""

from bisect import bisect_left, insort

ALIGNMENT = 64
"""PyTorch's, on a CPU."""


class Heap:
    """glibc's way with large blocks: the smallest hole that fits, else the end of the heap.

    Holes that touch become one, and what touches the end belongs to it again. See malloc(3) and
    "MallocInternals" of the glibc wiki.
    """

    def __init__(self) -> None:
        self.size = 0
        """How far the heap has ever reached, in bytes."""
        self._end = 0
        self._holes: list[tuple[int, int]] = []  # (size, start), sorted
        self._by_start: dict[int, int] = {}
        self._by_end: dict[int, int] = {}

    def take(self, num_bytes: int) -> int:
        """Return the address of a new block."""
        num_bytes = _rounded(num_bytes)
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
            num_bytes: as it was asked for.
        """
        size = _rounded(num_bytes)
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


def _rounded(num_bytes: int) -> int:
    return max(1, -(-num_bytes // ALIGNMENT)) * ALIGNMENT
