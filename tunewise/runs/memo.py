"""A memory of things that several runs of one process need, such as rows and token ids."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Thing = TypeVar("Thing")

MAX_THINGS = 32
"""Number of things kept: enough for rows and token ids of two tasks, and what set-ups take."""


class Key(Generic[Thing]):
    """The base of keys: frozen dataclasses whose fields are all that decides a thing."""


class Shared:
    """Keeps the things that were asked for last: rows, tokenizers, token ids."""

    def __init__(self) -> None:
        self._things: OrderedDict[Key[Any], Any] = OrderedDict()

    def get(self, key: Key[Thing], make: Callable[[], Thing]) -> Thing:
        """Return the thing of this key, which is made if it is not there."""
        if key not in self._things:
            self._things[key] = make()
        self._things.move_to_end(key)
        while len(self._things) > MAX_THINGS:
            self._things.popitem(last=False)
        thing: Thing = self._things[key]
        return thing
