"""Rows of instructions: the format of a row, its turns, and what of it cannot be read."""

import logging
import reprlib
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from tunewise.data.rows import Row
from tunewise.data.say_once import say_once
from tunewise.errors import DataError
from tunewise.tasks.chat import Turn, is_empty, read_turns

logger = logging.getLogger(__name__)

Format = Literal["instructions", "prompt and completion", "messages"]

CHATS = ("messages", "conversations")
SYSTEM = ("system", "system_prompt")
PREFERENCE = ("chosen", "rejected")
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
MEANINGFUL = (*CHATS, "prompt", "completion", *PREFERENCE, "history", *MEDIA)
"""Columns that have a meaning in some format: it is said if one of them is not read."""
INPUTS = ("input", "inputs", "context", "passage")
"""Names that other data give to the input of an instruction."""
QUESTIONS = ("question", "query", "problem", "input", "prompt", "text")
ANSWERS = ("answer", "response", "solution", "output", "completion", "target")
"""Names that other data give to an instruction and its response."""


class InstructionRow:
    """A row of instructions, in the format that its columns show.

    Args:
        instruction: the column with the instruction, if the row holds one.
        input: the column with the input; it may be missing.
        output: the column with the response.
    """

    def __init__(self, row: Row, instruction: str, input: str, output: str) -> None:
        self._row, self._instruction, self._input, self._output = row, instruction, input, output

    @property
    def format(self) -> Format:
        """The row's format."""
        return self._recognised[0]

    @property
    def has_input(self) -> bool:
        """Whether the instruction has an input that says something: 0 does, a blank text not."""
        return self._input != self._instruction and self._says(self._input)

    @property
    def response_column(self) -> str:
        """The column with the response to an instruction or a prompt.

        Raises:
            DataError: if the row has none.
        """
        column = self._output if self.format == "instructions" else "completion"
        if column not in self._row.values:
            columns = ", ".join(map(str, self._row.values))
            raise self._error(f"no column {column!r}; the row has: {columns}{self._hint()}")
        return column

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, and those of which it is said apart that they are not."""
        return (*self._read, *SYSTEM, *MEANINGFUL, *filter(None, [self._other_input()]))

    def refuse_preference(self) -> None:
        """Refuse a row that says which response is the better one.

        Raises:
            DataError: if the row is one.
        """
        values = self._row.values
        if {*PREFERENCE} <= values.keys() and not {self._output, "completion", *CHATS} & {*values}:
            raise self._error(
                "a preference ('chosen' and 'rejected'), but this kind of task learns responses: "
                "to learn the chosen ones, give them as 'completion'"
            )
        is_rated = {"prompt", "completion"} <= {*self._read}
        if is_rated and isinstance(values.get("label"), bool):
            raise self._error(
                "a preference ('label' is true or false), but this kind of task learns responses: "
                "keep the rows whose label is true, and leave the column out"
            )

    def turns(self) -> list[Turn]:
        """Return the turns of a conversation, or those before an instruction, if there are any.

        Raises:
            DataError: if they cannot be read.
        """
        self._refuse_tools()
        self._name_unread_columns()
        if self.format == "messages":
            turns = [turn for column in self._read for turn in self._chat(column)]
        else:
            turns = list(self._history())
        texts = {self._row.text(column) for column in SYSTEM if self._says(column)}
        if not texts:
            return turns
        if self.format == "prompt and completion":
            raise self._error("a system text beside a prompt; write both as 'messages'")
        of_turns = {turn.content for turn in turns if turn.role == "system"}
        if len(texts | of_turns) > 1:
            raise self._error("several system texts, which differ; keep one")
        return turns if of_turns else [Turn("system", texts.pop()), *turns]

    @property
    def _read(self) -> tuple[str, ...]:
        """The columns that are read."""
        return self._recognised[1]

    @cached_property
    def _recognised(self) -> tuple[Format, tuple[str, ...]]:
        """The row's format, and the columns that are read for it; null is no value."""
        values = self._row.values
        filled = [column for column, value in values.items() if value is not None]
        for columns in (filled, values):
            if self._instruction in columns:
                return "instructions", (self._instruction, self._input, self._output, "history")
            if chats := [column for column in CHATS if column in columns]:
                return "messages", (chats[0],)
            if "prompt" in columns and not isinstance(values["prompt"], list):
                return "prompt and completion", ("prompt", "completion")
            if "prompt" in columns:
                return "messages", tuple(c for c in ("prompt", "completion") if c in filled)
        raise self._error(
            f"has the columns {', '.join(map(str, values))}; needed are {self._instruction!r} and "
            f"{self._output!r}, or prompt and completion, or messages{self._hint()}"
        )

    def _chat(self, column: str) -> Iterator[Turn]:
        for turn in read_turns(self._row.values[column], self._row.origin, column):
            for field in turn.unread:
                self._name_unread(f"the field {field!r} of messages is not read")
            yield turn

    def _history(self) -> Iterator[Turn]:
        """Yield the turns of a history, as LLaMA-Factory writes it: pairs of texts."""
        if not self._says("history"):
            return
        history = self._row.values["history"]
        if self.format == "prompt and completion":
            raise self._error("a history beside a prompt; write both as 'messages'")
        for pair in history if isinstance(history, list) else [history]:
            is_pair = isinstance(pair, list) and len(pair) == 2
            if not (is_pair and all(isinstance(text, str) for text in pair)):
                shown = reprlib.repr(pair)
                raise self._error(
                    f"column 'history' holds {shown}; a list of pairs is needed, each of a "
                    "question and its answer"
                )
            yield Turn("user", pair[0])
            yield Turn("assistant", pair[1])

    def _refuse_tools(self) -> None:
        for column in ("tools", "functions"):
            tools = self._row.values.get(column)
            text = "".join(tools.split()) if isinstance(tools, str) else ""
            is_json = text[:1] in ("[", "{") and text not in ("[]", "{}")
            if is_json or (isinstance(tools, list | dict) and tools):
                raise self._error(f"column {column!r}: conversations with tools are not supported")

    def _name_unread_columns(self) -> None:
        for column in MEANINGFUL:
            if column not in self._read and self._says(column):
                self._name_unread(f"column {column!r} is not read: rows are read as {self.format}")
        if other := self._other_input():
            is_named = self.format == "instructions"
            cure = f"; if it is the input, set task.input={other}" if is_named else ""
            self._name_unread(f"column {other!r} is not read: rows are read as {self.format}{cure}")

    def _other_input(self) -> str | None:
        """Return the column that holds an input by its name, but is not read."""
        for column in self._row.values:
            is_input = column.lower() in INPUTS and column not in self._read
            if is_input and self._says(column):
                return column
        return None

    def _says(self, column: str) -> bool:
        """Return whether a column is there and holds something."""
        return not is_empty(self._row.values.get(column))

    def _hint(self) -> str:
        """Return what to do if other columns look like messages, or a question and its answer."""
        values = self._row.values
        for column, value in values.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return f"; if {column!r} holds messages, name it 'messages'"
        by_name = {column.lower(): column for column in reversed(values)}
        fields: dict[str, tuple[str, tuple[str, ...]]] = {
            "instruction": (self._instruction, QUESTIONS),
            "input": (self._input, INPUTS),
            "output": (self._output, ANSWERS),
        }
        settings: dict[str, str] = {}
        for field, (current, others) in fields.items():
            known = (current, *(by_name.get(name, "") for name in (field, *others)))
            left = (name for name in known if name in values and name not in settings.values())
            found = next(left, None)
            if found is None and field != "input":
                return ""
            if found is not None:
                settings[field] = found
        changed = [
            f"task.{field}={name}" for field, name in settings.items() if name != fields[field][0]
        ]
        return f"; or set {' '.join(changed)}" if changed else ""

    def _name_unread(self, what: str) -> None:
        say_once(logger, logging.WARNING, f"{self._row.origin.rpartition(':')[0]}: {what}")

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self._row.origin}: {problem}")
