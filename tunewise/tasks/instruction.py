"""Instruction: instructions and their responses, in any of the usual formats.

Alpaca rows (https://github.com/tatsu-lab/stanford_alpaca) have `instruction`, `input` (which may be
empty) and `output`; others have `prompt` and `completion`, or `messages` (a list of `role` and
`content`), or ShareGPT's `conversations` (of `from` and `value`). The format is recognised by
a row's columns: see `instruction_row`.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, field_validator

from tunewise.data.example import Example, MarkedText, Span
from tunewise.data.rows import Row, Split
from tunewise.errors import DataError
from tunewise.tasks.chat import Role, Turn, question, response_place
from tunewise.tasks.instruction_row import Format, InstructionRow
from tunewise.tasks.notices import row_notices
from tunewise.tasks.template import Template, fill
from tunewise.tasks.text_task import TextTask

logger = logging.getLogger(__name__)


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

    single_message: Format | None = None
    """The format in which `serve` reads a chat of one message. Default: that of the training
    rows."""

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

    def read_columns(self, row: Row) -> tuple[str, ...]:
        """Return the columns that are read of a row, in its format."""
        return self._read_row(row).columns

    def resolve(self, examples: Sequence[Example]) -> "Instruction":
        """Return the task with the format of most training rows as that of single messages."""
        if self.single_message is not None:
            return self
        ((most, _),) = _formats(examples).most_common(1)
        return self.model_copy(update={"single_message": most})

    def examples(self, split: Split, data: Path | None = None) -> list[Example]:
        """Return one example per row; the format of the user's own rows is logged."""
        examples = super().examples(split, data)
        if split == "train" and self.path is not None:
            counts = _formats(examples)
            found = " and ".join(
                form if len(counts) == 1 else f"{form} ({count})"
                for form, count in counts.most_common()
            )
            learned = "; the last response of each is learned" if "messages" in counts else ""
            logger.info("%s: read as %s%s", self.path, found, learned)
        return examples

    def example(self, row: Row) -> Example:
        """Return the example that a row makes."""
        read = self._read_row(row)
        read.refuse_preference()
        if read.format != "messages":
            text = MarkedText(self.read(row, read.response_column))
            return self.prompt_of(row).with_target(text)
        turns = read.turns()
        place = response_place(turns, row.origin)
        if self.loss_on == "everything" and not all(turn.learned for turn in turns[:place]):
            raise DataError(
                f"{row.origin}: a message before the response has weight 0, and "
                "task.loss_on=everything learns it; use task.loss_on=answer"
            )
        text = MarkedText(self._text(turns[place], row.origin))
        return self.ask(turns[:place], row).with_target(text)

    def prompt_of(self, row: Row) -> Example:
        """Return the prompt of a row; of a conversation, everything before the response."""
        read = self._read_row(row)
        turns = read.turns()
        if read.format == "messages":
            return self.ask(question(turns, row.origin), row)
        if read.format == "prompt and completion":
            return Example.continuing(row.id, MarkedText(self.read(row, "prompt")))
        if turns:
            asked = row.text(self.instruction)
            asked += f"\n{row.text(self.input)}" if read.has_input else ""
            return self.ask([*turns, Turn("user", asked)], row)
        columns = {"instruction": self.instruction, "input": self.input}
        filled = fill(
            self.with_input if read.has_input else self.without_input,
            lambda name: self.read(row, columns.get(name, name)),
        )
        return Example.asking(row.id, filled.prompt, filled.cue)

    def prompt_of_chat(self, turns: Sequence[Turn], origin: str) -> Example:
        """Return the prompt of a chat; a single message is read as the training rows were."""
        row = Row({}, origin)
        if len(turns) > 1 or turns[0].role != "user" or self.single_message == "messages":
            return self.ask(turns, row)
        is_prompt = self.single_message == "prompt and completion"
        column = "prompt" if is_prompt else self.instruction
        return self.prompt_of(Row({column: turns[0].content}, origin))

    def ask(self, turns: Sequence[Turn], row: Row) -> Example:
        """Return the prompt of a conversation: all of its turns, and the beginning of another."""
        prompt, cut_from = MarkedText(), 0
        exchanges: list[list[Span]] = [[]]
        role_before: Role | None = None
        for turn in turns:
            start = len(prompt.value)
            before, _, after = self.turns[turn.role].partition("{content}")
            prompt += MarkedText.literal(before)
            cut_from = len(prompt.value) if turn.role == "user" else cut_from
            prompt += MarkedText(self._text(turn, row.origin)) + MarkedText.literal(after)
            if turn.role == "system":
                continue
            if (role_before, turn.role) == ("assistant", "user"):
                exchanges.append([])
            exchanges[-1].append((start, len(prompt.value)))
            role_before = turn.role
        opening, _, _ = self.turns["assistant"].partition("{content}")
        asked = Example.asking(row.id, prompt, MarkedText.literal(opening))
        return replace(asked, exchanges=tuple(map(tuple, exchanges)), cut_from=cut_from)

    def _notices(self, rows: Sequence[Row]) -> list[str]:
        """Return what deserves a word about instructions; rows without an answer are dropped."""
        return row_notices(rows, (self.instruction,))

    def _read_row(self, row: Row) -> InstructionRow:
        return InstructionRow(row, self.instruction, self.input, self.output)

    def _text(self, turn: Turn, origin: str) -> str:
        """Return a turn's text as the task reads it."""
        return self.read(Row({"content": turn.content}, origin), "content")


def _formats(examples: Sequence[Example]) -> Counter[Format]:
    """Return how many examples there are of each format, which shows in their prompts."""
    return Counter(_format(example) for example in examples)


def _format(example: Example) -> Format:
    if example.exchanges:
        return "messages"
    has_template = example.literals.prompt or example.literals.cue
    return "instructions" if has_template else "prompt and completion"
