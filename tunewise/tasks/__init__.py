"""The kinds of task, one file each. To add one, write its file and name it in `AnyTask`."""

from typing import Annotated

from pydantic import Field

from tunewise.settings import union_by_kind
from tunewise.tasks.classification import Classification
from tunewise.tasks.cloze import Cloze
from tunewise.tasks.generation import Generation
from tunewise.tasks.instruction import Instruction
from tunewise.tasks.language_modeling import LanguageModeling
from tunewise.tasks.summarization import Summarization
from tunewise.tasks.task import Task
from tunewise.tasks.text_task import TextTask

AnyTask = Annotated[
    Classification | Cloze | Generation | Instruction | LanguageModeling | Summarization,
    Field(discriminator="kind"),
]

TASKS: dict[str, type[Task]] = union_by_kind(AnyTask)
"""Each kind of task by its name."""

__all__ = [
    "TASKS",
    "AnyTask",
    "Classification",
    "Cloze",
    "Generation",
    "Instruction",
    "LanguageModeling",
    "Summarization",
    "Task",
    "TextTask",
]
