"""Text of rows, labels and names, made safe to print: control characters are written out."""

import re
import sys

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that control a terminal (escape sequences, carriage returns) or turn the direction of
a line around. Line ends and tabs are left as they are."""


def visible(text: str) -> str:
    r"""Return a text in which control characters are written out, such as `\x1b`."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def for_stdout(text: str) -> str:
    """Return a text as standard output gets it: exact in a file or pipe, visible on a terminal."""
    return visible(text) if sys.stdout.isatty() else text
