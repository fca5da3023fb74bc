"""Instruction: instructions and their responses, in any of the usual formats.

Alpaca rows (https://github.com/tatsu-lab/stanford_alpaca) have `instruction`, `input` (which may be
empty) and `output`; others have `prompt` and `completion`, or `messages` (a list of `role` and
`content`), or ShareGPT's `conversations` (of `from` and `value`). The format is recognised by
a row's columns.
"""

import logging
import reprlib
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field, field_validator

from tunewise.data.example import Example, MarkedText
from tunewise.data.rows import Row, Split
from tunewise.errors import DataError
from tunewise.tasks.template import Template, fill
from tunewise.tasks.text_task import TextTask

logger = logging.getLogger(__name__)

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
"""Our name of each role, ShareGPT's included."""


class Turn(NamedTuple):
    """One message of a conversation."""

    role: Role
    content: str


class Instruction(TextTask):
    """A prompt in Alpaca's format, with or without an input, and the response."""

    kind: Literal["instruction"] = "instruction"
    instruction: str = "instruction"
    """The column with the instruction."""
    input: str = "input"
    """The column with the input; it may be missing or empty."""
    output: str = "output"
    """The column with the response."""
    with_input: Template = (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
    )
    """The prompt of a row with an input."""
    without_input: Template = (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
    )
    """The prompt of a row without an input."""
    turns: dict[Role, str] = Field(
        default={
            "system": "{content}\n\n",
            "user": "### Instruction:\n{content}\n\n",
            "assistant": "### Response:\n{content}\n\n",
        }
    )
    """Templates of the turns of a conversation; the assistant's last is the response. Special
    tokens may be named here, and in any template."""

    metrics: tuple[str, ...] = ("loss", "perplexity", "chrf", "rougeL")

    @field_validator("turns")
    @classmethod
    def _every_turn_has_its_content(cls, turns: dict[Role, str]) -> dict[Role, str]:
        for role in get_args(Role):
            if turns.get(role, "").count("{content}") != 1:
                raise ValueError(f"turns: {role} needs a template with {{content}} once")
        return turns

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (self.instruction, self.output)

    def examples(self, split: Split, data: Path | None = None) -> list[Example]:
        """Return one example per row; the format of the user's own rows is logged."""
        if split == "train" and self.path is not None:
            logger.info("%s: read as %s", self.path, self._shape(self.rows(split, data)[0]))
        return super().examples(split, data)

    def example(self, row: Row) -> Example:
        """Return the example that a row makes."""
        shape = self._shape(row)
        if shape == "messages":
            turns = self._turns(row)
            if len(turns) < 2 or turns[-1].role != "assistant":
                raise DataError(
                    f"{row.origin}: the last of several messages must be the assistant's"
                )
            text = turns[-1].content
        else:
            text = self.read(row, self.output if shape == "instructions" else "completion")
        return self.prompt_of(row).with_target(MarkedText(text))

    def prompt_of(self, row: Row) -> Example:
        """Return the prompt of a row; of a conversation, everything before the response."""
        shape = self._shape(row)
        if shape == "messages":
            return self._conversation(row)
        if shape == "prompt and completion":
            return Example.asking(row.id, MarkedText(self.read(row, "prompt")))
        has_input = bool(row.values.get(self.input))
        columns = {"instruction": self.instruction, "input": self.input}
        filled = fill(
            self.with_input if has_input else self.without_input,
            lambda name: self.read(row, columns.get(name, name)),
        )
        return Example.asking(row.id, filled.prompt, filled.cue)

    def _shape(self, row: Row) -> Literal["instructions", "prompt and completion", "messages"]:
        if self.instruction in row.values:
            return "instructions"
        if "messages" in row.values or "conversations" in row.values:
            return "messages"
        if "prompt" in row.values:
            return "prompt and completion"
        raise DataError(
            f"{row.origin}: has the columns {', '.join(map(str, row.values))}; needed are "
            f"{self.instruction!r} and {self.output!r}, or prompt and completion, or messages"
        )

    def _conversation(self, row: Row) -> Example:
        """Return the prompt of a conversation; the assistant's turn at its end is the response."""
        turns = self._turns(row)
        asked = turns[:-1] if turns and turns[-1].role == "assistant" else turns
        if not asked:
            raise DataError(f"{row.origin}: no message to respond to")
        prompt = MarkedText()
        for turn in asked:
            before, _, after = self.turns[turn.role].partition("{content}")
            prompt += MarkedText.literal(before) + MarkedText(turn.content)
            prompt += MarkedText.literal(after)
        opening, _, _ = self.turns["assistant"].partition("{content}")
        return Example.asking(row.id, prompt, MarkedText.literal(opening))

    def _turns(self, row: Row) -> list[Turn]:
        return [self._turn(turn, row) for turn in _list(row)]

    def _turn(self, turn: Any, row: Row) -> Turn:
        """Return a message with our name of its role, in either format."""
        values = turn if isinstance(turn, dict) else {}
        name = values.get("role", values.get("from"))
        role = ROLES.get(name) if isinstance(name, str) else None
        content = values.get("content", values.get("value"))
        if role is None or not isinstance(content, str):
            raise DataError(
                f"{row.origin}: {reprlib.repr(turn)} is not a message with a role "
                f"({', '.join(ROLES)}) and text as its content"
            )
        return Turn(role, self.read(Row({"content": content}, row.origin), "content"))


def _list(row: Row) -> list[Any]:
    column = "messages" if "messages" in row.values else "conversations"
    turns = row.values[column]
    if not isinstance(turns, list):
        shown = reprlib.repr(turns)
        raise DataError(f"{row.origin}: column {column!r} holds {shown}; a list is needed")
    return turns
