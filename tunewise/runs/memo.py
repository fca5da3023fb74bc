"""What the runs of one process have in common, each made once."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Thing = TypeVar("Thing")

MOST = 32
"""Things kept at once: rows and token ids of two tasks in three splits, what set-ups take."""


class Shared:
    """Keeps the things that were asked for last: rows, tokenizers, token ids."""

    def __init__(self) -> None:
        self._things: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Thing]) -> Thing:
        """Return the thing of this key, which is made if it is not there."""
        if key not in self._things:
            self._things[key] = make()
        self._things.move_to_end(key)
        while len(self._things) > MOST:
            self._things.popitem(last=False)
        thing: Thing = self._things[key]
        return thing
