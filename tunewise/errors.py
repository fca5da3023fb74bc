"""Errors that a user can fix. Each is printed on the terminal as one line, `error: ...`."""

import difflib
from collections.abc import Iterable

MAX_CHARACTERS = 2000
"""Longest message, in characters; it may quote a file of any size."""


class TunewiseError(Exception):
    """A mistake that the user can fix: the message says what was found, where, and what to do.

    The message is one line of printable characters, whatever it quotes: the name of a column may
    hold the control characters that clear a terminal's screen.
    """

    def __init__(self, message: str) -> None:
        if len(message) > MAX_CHARACTERS:
            message = f"{message[: MAX_CHARACTERS // 2]} ... {message[-MAX_CHARACTERS // 2 :]}"
        line = " ".join(part.strip() for part in message.splitlines())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))


class ConfigError(TunewiseError):
    """A configuration that cannot be run."""


class DataError(TunewiseError):
    """A row, file or folder of data that cannot be used."""


class ModelError(TunewiseError):
    """A model folder, weight file or model name that cannot be used."""


class TrainingError(TunewiseError):
    """A training run that cannot continue."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean X? " if a known name is close to this one, and all known names."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
