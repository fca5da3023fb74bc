"""A memory of things that several runs of one process need, such as rows and token ids."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Thing = TypeVar("Thing")

MAX_THINGS = 32
"""Most things kept: enough for the rows, token ids and estimates of two tasks."""


class Key(Generic[Thing]):
    """Base class of keys: frozen dataclasses whose fields decide what the thing is."""


class Shared:
    """Keeps the things that were used last: rows, tokenizers, token ids."""

    def __init__(self) -> None:
        self._things: OrderedDict[Key[Any], Any] = OrderedDict()

    def get(self, key: Key[Thing], make: Callable[[], Thing]) -> Thing:
        """Return the thing of this key, making it if it is not there."""
        if key not in self._things:
            self._things[key] = make()
        self._things.move_to_end(key)
        while len(self._things) > MAX_THINGS:
            self._things.popitem(last=False)
        thing: Thing = self._things[key]
        return thing
