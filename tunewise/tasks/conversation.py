"""Conversations: the messages of a chat become the prompt that a task was trained on."""

from typing import Any

from tunewise.data.example import Example
from tunewise.data.rows import Row
from tunewise.errors import DataError
from tunewise.tasks.chat import read_turns
from tunewise.tasks.instruction import Instruction
from tunewise.tasks.task import Task


def read_conversation(task: Task, messages: list[Any], where: str) -> Example:
    """Return the example that a task makes of a conversation.

    An instruction task reads it as its rows of messages; a single message of the user as whatever
    its training rows are. A single message is also the only column that another task with text
    answers reads. In every other case the texts are joined by empty lines, without a template.

    Args:
        where: place of the messages, for errors.

    Raises:
        DataError: if the task cannot read it.
    """
    turns = read_turns(messages, where, "messages")
    for number, turn in enumerate(turns, start=1):
        if unread := [field for field in turn.unread if field != "name"]:
            raise DataError(f"{where}: message {number}: {unread[0]!r} is not supported")
    # The task would take an answer at the end for the target, and leave it out of the prompt.
    if turns[-1].role == "assistant":
        raise DataError(
            f"{where}: the last message is the assistant's, so there is nothing to answer"
        )
    if isinstance(task, Instruction):
        return task.prompt_of_chat(turns, where)
    single = len(turns) == 1 and turns[0].role == "user"
    if single and task.answer_kind.writes_text and len(task.prompt_columns) == 1:
        return task.prompt_of(Row({task.prompt_columns[0]: turns[0].content}, where))
    return Example(where, "\n\n".join(turn.content for turn in turns), "")
