"""The kinds of task, one file each. To add one, write its file and name it here."""

from typing import Annotated

from pydantic import Field

from tunewise.tasks.classification import Classification
from tunewise.tasks.language_modeling import LanguageModeling
from tunewise.tasks.task import Task

AnyTask = Annotated[Classification | LanguageModeling, Field(discriminator="kind")]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "language_modeling": LanguageModeling,
}

__all__ = ["TASKS", "AnyTask", "Classification", "LanguageModeling", "Task"]
