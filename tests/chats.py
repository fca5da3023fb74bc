"""Chats in short, and a task whose prompts show their turns."""

from typing import Any

from tunewise.data.rows import Row
from tunewise.tasks import Instruction

Values = dict[str, Any]

TASK = Instruction(
    with_input="I{instruction}+{input}>",
    without_input="I{instruction}>",
    turns={"system": "S{content}|", "user": "U{content}|", "assistant": "A{content}|"},
)
ROLES = {"s": "system", "d": "developer", "u": "user", "a": "assistant"}


def row(values: Values) -> Row:
    """Return a row of a file."""
    return Row(values, "data/train.jsonl:7")


def messages(*turns: str, **last: Any) -> list[Values]:
    """Return messages in OpenAI's format: `ua` is the user's message `a`.

    Args:
        last: more fields of the last one.
    """
    made: list[Values] = [{"role": ROLES[turn[0]], "content": turn[1:]} for turn in turns]
    made[-1] |= last
    return made


def sharegpt(*turns: tuple[str, str]) -> list[Values]:
    """Return messages in ShareGPT's format, from roles and texts."""
    return [{"from": role, "value": text} for role, text in turns]


def parts(*texts: str) -> list[Values]:
    """Return texts as OpenAI's parts of a content."""
    return [{"type": "text", "text": text} for text in texts]
