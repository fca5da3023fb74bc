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
    """All that may be answered: labels in the output layer's order, or texts; empty if free."""
    cue: str = ""
    """The end of what is given, such as `TL;DR:`: where a prompt is too long, it is not cut."""
