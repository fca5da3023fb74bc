"""What a task makes of a row."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One thing to learn or to answer, as text."""

    id: str
    """Where it came from, `file:line`: no two examples of a split share it."""
    prompt: str
    """What is given; empty where the whole text is to be learnt."""
    target: str
    """What is wanted: the name of a label, or a text."""
    choices: tuple[str, ...] = ()
    """For a classifier: all labels, in the order of its output layer."""
