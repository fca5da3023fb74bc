"""Inputs of a task, from requests: conversations become examples, and texts become rows."""

from collections.abc import Sequence
from typing import Any

from tunewise.data.example import Example
from tunewise.data.rows import Row
from tunewise.errors import ConfigError, DataError
from tunewise.serving.requests import InputRow, Message
from tunewise.tasks import Instruction, Task


def read_conversation(task: Task, messages: Sequence[Message]) -> Example:
    """Return the example that a task makes of a conversation.

    A single message of the user is a row: the `instruction` of an instruction task, or the only
    column that another task with text answers reads. Several messages are the turns of an
    instruction task. In every other case the texts are joined by empty lines, without a template.

    Raises:
        DataError: if the task cannot read it.
    """
    # The task would take an answer at the end for the target, and leave it out of the prompt.
    if messages[-1].role == "assistant":
        raise DataError("messages: the last one is the assistant's, so there is nothing to answer")
    single = len(messages) == 1 and messages[0].role == "user"
    if isinstance(task, Instruction):
        if single:
            return task.prompt_of(Row({task.instruction: messages[0].text}, "messages"))
        turns = [
            {"role": "system" if m.role == "developer" else m.role, "content": m.text}
            for m in messages
        ]
        return task.prompt_of(Row({"messages": turns}, "messages"))
    if single and task.answer_kind.writes_text and len(task.prompt_columns) == 1:
        return task.prompt_of(Row({task.prompt_columns[0]: messages[0].text}, "messages"))
    return Example("messages", "\n\n".join(message.text for message in messages), "")


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
