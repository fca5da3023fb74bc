"""What rows, labels and names hold is shown on a terminal, and never obeyed by it."""

import re
import sys

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys (escape sequences, carriage returns) or that turn the direction
of a line around; line ends and tabs are none of them."""


def visible(text: str) -> str:
    r"""Return a text in which characters that a terminal obeys are written out, such as `\x1b`."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def for_stdout(text: str) -> str:
    """Return a text as standard output gets it: exact in a file or pipe, visible on a terminal."""
    return visible(text) if sys.stdout.isatty() else text
