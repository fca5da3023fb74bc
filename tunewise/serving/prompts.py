"""Rows of a task with labels, from requests."""

from typing import Any

from tunewise.data.rows import Row
from tunewise.errors import ConfigError, DataError
from tunewise.serving.requests import InputRow
from tunewise.tasks import Task


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
