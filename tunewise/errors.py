"""Errors that a user can fix. Each is printed on the terminal as one line, `error: ...`."""

import difflib
from collections.abc import Iterable

MAX_CHARACTERS = 2000
"""Longest message, in characters; it may quote a file of any size."""
MAX_NAMES = 5
"""Most rows, files or tensors that a message names."""


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


class NotFiniteError(ModelError):
    """A model whose outputs are not finite numbers, so that none of its answers means anything."""

    @classmethod
    def of(cls, rows: Iterable[str] = ()) -> "NotFiniteError":
        """Return the error, naming the first of some rows."""
        names = first_of(rows)
        return cls(
            f"the model's outputs are not finite{names and f' for {names}'}: its weights are "
            "damaged, or its training diverged; train it again with a lower train.learning_rate"
        )


class TrainingError(TunewiseError):
    """A training run that cannot continue."""


def first_of(names: Iterable[str], count: int | None = None) -> str:
    """Return the first few names, and how many more there are: "a, b, c, d, e and 35 more".

    Args:
        count: how many there are, if `names` are only the first of them.
    """
    distinct = list(dict.fromkeys(names))
    shown = distinct[:MAX_NAMES]
    more = (count or len(distinct)) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean X? " if a known name is close to this one, and all known names."""
    names = list(known)
    same = [known for known in names if known.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name, names, n=1) or _beginnings(name, names)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def _beginnings(name: str, known: Iterable[str]) -> list[str]:
    """Return the longest known name that a name begins with: `lora` of `lora-rank-8`."""
    return sorted((k for k in known if len(k) > 2 and name.startswith(k)), key=len)[-1:]
