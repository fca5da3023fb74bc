"""The kinds of task, one file each. To add one, write its file and name it here."""

from typing import Annotated

from pydantic import Field

from tunewise.tasks.answered import Answered
from tunewise.tasks.classification import Classification
from tunewise.tasks.cloze import Cloze
from tunewise.tasks.generation import Generation
from tunewise.tasks.instruction import Instruction
from tunewise.tasks.language_modeling import LanguageModeling
from tunewise.tasks.summarization import Summarization
from tunewise.tasks.task import Task

AnyTask = Annotated[
    Classification | Cloze | Generation | Instruction | LanguageModeling | Summarization,
    Field(discriminator="kind"),
]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "cloze": Cloze,
    "generation": Generation,
    "instruction": Instruction,
    "language_modeling": LanguageModeling,
    "summarization": Summarization,
}

__all__ = [
    "TASKS",
    "Answered",
    "AnyTask",
    "Classification",
    "Cloze",
    "Generation",
    "Instruction",
    "LanguageModeling",
    "Summarization",
    "Task",
]
