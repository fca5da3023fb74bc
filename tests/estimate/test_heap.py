"""Laws of the heap: blocks never overlap, holes are filled again, and free neighbours join."""

import random
from itertools import pairwise

import pytest

from tunewise.estimate.heap import ALIGNMENT, Heap


@pytest.mark.parametrize("seed", range(10))
def test_blocks_never_overlap_and_the_heap_is_no_smaller_than_they_are(seed: int) -> None:
    chance, heap = random.Random(seed), Heap()
    alive: dict[int, int] = {}
    for _ in range(2_000):
        if alive and chance.random() < 0.5:
            start = chance.choice(list(alive))
            heap.give_back(start, alive.pop(start))
        else:
            size = chance.choice([1, 64, 100, 4096, 10_000, 2**20])
            alive[heap.take(size)] = size
        ends = sorted((start, start + size) for start, size in alive.items())
        assert all(end <= after for (_, end), (after, _) in pairwise(ends))
        assert heap.size >= max((end for _, end in ends), default=0)
    for start, size in alive.items():
        heap.give_back(start, size)
    reached = heap.size
    assert heap.take(reached) == 0  # holes have become one
    assert heap.size == reached


def test_the_smallest_hole_that_fits_is_taken() -> None:
    heap = Heap()
    large, _, small, _ = (heap.take(size * ALIGNMENT) for size in (8, 1, 4, 1))
    heap.give_back(large, 8 * ALIGNMENT)
    heap.give_back(small, 4 * ALIGNMENT)
    assert heap.take(3 * ALIGNMENT) == small
    assert heap.take(4 * ALIGNMENT) == large


def test_a_block_that_fits_no_hole_makes_the_heap_grow() -> None:
    heap = Heap()
    first = heap.take(4 * ALIGNMENT)
    heap.take(ALIGNMENT)
    heap.give_back(first, 4 * ALIGNMENT)
    assert heap.take(5 * ALIGNMENT) == 5 * ALIGNMENT
    assert heap.size == 10 * ALIGNMENT
