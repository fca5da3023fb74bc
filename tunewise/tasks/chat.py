"""Chats: a list of messages, as OpenAI, ShareGPT and others write it, becomes turns.

Training, `predict` and `serve` read messages with this code alone. A field of a message is read,
refused, or named as one that is not read.
"""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tunewise.errors import DataError, nearest

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "chatbot": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
}
"""Our name of each role that the formats name, in lower case."""

TOOL_ROLES = ("tool", "function", "function_call", "observation", "tool_call", "ipython")
TOOL_FIELDS = ("tool_calls", "function_call", "tool_call_id")
READ_FIELDS = ("role", "from", "content", "value", "weight")
PART_FIELDS = ("type", "text")


class Turn(NamedTuple):
    """One message of a conversation."""

    role: Role
    content: str
    learned: bool = True
    """Whether it may be learned: OpenAI's `weight` is not 0."""
    unread: tuple[str, ...] = ()
    """The message's fields that are not read, such as `name`."""


def read_turns(messages: Any, where: str, name: str) -> list[Turn]:
    """Return the turns of a list of messages.

    Args:
        where: place of the list, for errors.
        name: the list's name: that of its column or field.

    Raises:
        DataError: if a message cannot be used; the error names it.
    """
    if not isinstance(messages, list):
        is_text = isinstance(messages, str) and messages.lstrip()[:1] == "["
        hint = ", not its text: parse it, and write JSON lines" if is_text else ""
        raise DataError(
            f"{where}: column {name!r} holds {reprlib.repr(messages)}; a list is needed{hint}"
        )
    return [
        _read_turn(message, f"{where}: message {number} of {name!r}")
        for number, message in enumerate(messages, start=1)
    ]


def response_place(turns: Sequence[Turn], where: str) -> int:
    """Return the place of the turn to learn: the assistant's last that has no weight of 0.

    Raises:
        DataError: if there is none, or nothing comes before it, or nobody answers the last turn.
    """
    if all(turn.role != "assistant" for turn in turns):
        raise DataError(f"{where}: no message is the assistant's, so there is no response to learn")
    if turns[-1].role != "assistant":
        raise DataError(
            f"{where}: the last message is the {turns[-1].role}'s and has no response; "
            "a conversation to learn ends with the assistant's"
        )
    place = _last_learned(turns)
    if place is None:
        raise DataError(f"{where}: each message of the assistant has weight 0: nothing to learn")
    _refuse_unasked(place, where)
    return place


def question(turns: Sequence[Turn], where: str) -> Sequence[Turn]:
    """Return the turns to respond to: all, or those before the response if it is there.

    Raises:
        DataError: if there are none.
    """
    if not turns:
        raise DataError(f"{where}: no message to respond to")
    if turns[-1].role != "assistant":
        return turns
    place = _last_learned(turns)
    place = len(turns) - 1 if place is None else place
    _refuse_unasked(place, where)
    return turns[:place]


def _last_learned(turns: Sequence[Turn]) -> int | None:
    places = [n for n, turn in enumerate(turns) if turn.role == "assistant" and turn.learned]
    return places[-1] if places else None


def _refuse_unasked(place: int, where: str) -> None:
    if place == 0:
        raise DataError(f"{where}: no message comes before the assistant's, so it answers nothing")


def _read_turn(message: Any, where: str) -> Turn:
    if not isinstance(message, dict):
        shown = reprlib.repr(message)
        raise DataError(f"{where} is {shown}; an object with a role and a content is needed")
    # A table with columns of its own for all fields holds null where a message has none.
    fields = {name: value for name, value in message.items() if not is_empty(value)}
    role = _read_role(fields, where)
    content = _either(message, "content", "value", where)
    if content is None and not {"content", "value"} & message.keys():
        raise DataError(f"{where} has no 'content'; its fields: {', '.join(map(str, message))}")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [_read_part(part, where) for part in parts]
    if not all(isinstance(text, str) for text in texts):
        shown = reprlib.repr(content)
        raise DataError(f"{where} holds {shown} as its content; text is needed")
    weight = fields.get("weight", 1)
    if weight not in (0, 1):
        raise DataError(f"{where} has the weight {reprlib.repr(weight)}; 0 and 1 are possible")
    unread = {str(name): None for name in fields if name not in READ_FIELDS}
    for part in parts:
        unread |= {
            str(n): None for n, v in part.items() if n not in PART_FIELDS and not is_empty(v)
        }
    return Turn(role, "".join(texts), bool(weight), tuple(unread))


def _read_role(fields: Mapping[str, Any], where: str) -> Role:
    name = _either(fields, "role", "from", where)
    if name is None:
        raise DataError(f"{where} has no role; {nearest('', ROLES)}")
    known = name.strip().lower() if isinstance(name, str) else ""
    used = [field for field in TOOL_FIELDS if field in fields]
    if used or known in TOOL_ROLES:
        what = f"field {used[0]!r}" if used else f"role {known!r}"
        raise DataError(f"{where} has the {what}; conversations with tools are not supported")
    if known not in ROLES:
        shown = reprlib.repr(name)
        raise DataError(f"{where} has the role {shown}; {nearest(known, ROLES)}")
    return ROLES[known]


def _read_part(part: Any, where: str) -> Any:
    """Return the text of one part of a message's content."""
    kind = part.get("type") or "text" if isinstance(part, dict) else None
    if kind != "text":
        what = f"has a part of type {kind!r}" if kind else f"has the part {reprlib.repr(part)}"
        raise DataError(f"{where} {what}; only parts of type 'text' can be read")
    return part.get("text")


def _either(fields: Mapping[str, Any], one: str, other: str, where: str) -> Any:
    """Return a field that has two names.

    Raises:
        DataError: if both are there and differ.
    """
    first, second = fields.get(one), fields.get(other)
    if first is not None and second is not None and first != second:
        raise DataError(f"{where} has {one!r} and {other!r}, which differ; keep one")
    return second if first is None else first


def is_empty(value: Any) -> bool:
    """Return whether a field says nothing: null, a blank text, or an empty list or object."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())
