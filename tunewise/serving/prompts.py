"""Inputs of a task, from requests: conversations become examples, and texts become rows."""

from typing import Any

from tunewise.data.example import Example
from tunewise.data.rows import Row
from tunewise.errors import ConfigError, DataError
from tunewise.serving.requests import InputRow
from tunewise.tasks import Instruction, Task
from tunewise.tasks.chat import read_turns


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


def read_row(task: Task, asked: InputRow, number: int) -> dict[str, Any]:
    """Return a row that a task with labels can read.

    Raises:
        DataError: if the task cannot read it, or it is a text and the task reads several columns.
        ConfigError: if the task has no labels.
    """
    if not task.answer_kind.has_labels:
        raise ConfigError(f"the task {task.name!r} is of kind {task.kind}, which has no labels")
    values = _one_column(task, asked, number) if isinstance(asked, str) else asked
    task.prompt_of(Row(values, f"input {number}"))
    return values


def _one_column(task: Task, text: str, number: int) -> dict[str, Any]:
    if len(task.prompt_columns) > 1:
        needed = ", ".join(task.prompt_columns)
        raise DataError(f"input {number}: a text; an object with {needed} is needed")
    return dict.fromkeys(task.prompt_columns, text)
