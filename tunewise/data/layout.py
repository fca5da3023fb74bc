"""The layout of a run's sequences: their maximum length, and the virtual ids before them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The layout of each sequence of a run."""

    max_length: int
    """Most ids of a sequence, virtual ids included."""
    virtual_ids: tuple[int, ...] = ()
    """Ids that stand in front of every sequence.

    They are those of a soft prompt: they follow the ids of the vocabulary, so no text has them, and
    the model's embedding layer has a trained vector for each. The keys and values of prefix tuning
    have no ids; `max_length` is smaller where they take positions.
    """

    @property
    def text_length(self) -> int:
        """Most ids of a sequence's text."""
        return self.max_length - len(self.virtual_ids)
