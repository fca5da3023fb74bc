"""Examples: a task's rows as texts, with the parts marked that templates wrote."""

from dataclasses import dataclass, replace

Span = tuple[int, int]
"""A part of a text: the place of its first character, and that behind its last."""
Exchange = tuple[Span, ...]
"""The turns of a conversation from a question on, up to the next question."""


@dataclass(frozen=True)
class MarkedText:
    """A text in which the parts that a template wrote are marked.

    Only there does the name of a special token, such as `<|im_start|>`, stand for the token. What a
    row holds is ordinary text, whatever it spells, and so is what a row and a template spell
    together.
    """

    value: str = ""
    literals: tuple[Span, ...] = ()
    """The parts that the template wrote, in order."""

    @classmethod
    def literal(cls, value: str) -> "MarkedText":
        """Return a text that a template wrote whole."""
        return cls(value, ((0, len(value)),) if value else ())

    def __add__(self, other: "MarkedText") -> "MarkedText":
        # Neighbours stay two parts, since an empty column may stand between them: with
        # `<|im_{text}start|>` no row writes a special token.
        offset = len(self.value)
        moved = tuple((start + offset, stop + offset) for start, stop in other.literals)
        return MarkedText(self.value + other.value, self.literals + moved)

    def part(self, start: int, stop: int | None = None) -> "MarkedText":
        """Return a part of the text; a literal that is not wholly in it is no literal there."""
        stop = len(self.value) if stop is None else stop
        inside = [span for span in self.literals if start <= span[0] and span[1] <= stop]
        moved = tuple((first - start, last - start) for first, last in inside)
        return MarkedText(self.value[start:stop], moved)


@dataclass(frozen=True)
class Literals:
    """The parts of an example's texts that its task's templates wrote."""

    prompt: tuple[Span, ...] = ()
    cue: tuple[Span, ...] = ()
    target: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Example:
    """One example to learn or to answer, as text."""

    id: str
    """Place of its row, `file:line`, or the user's own key: no two examples of a split share it."""
    prompt: str
    """The text before the answer; empty if the whole text is to be learned."""
    target: str
    """The expected answer: the name of a label, or a text."""
    choices: tuple[str, ...] = ()
    """All possible answers: labels in the output layer's order, or texts; empty if any text is."""
    cue: str = ""
    """The text after the prompt, such as `TL;DR:`: it is kept if a long prompt is cut."""
    literals: Literals = Literals()
    """The parts of these texts in which special tokens may be named."""
    exchanges: tuple[Exchange, ...] = ()
    """The exchanges of a conversation, the oldest first: the places of their turns in the prompt.
    The last one holds the question. If the prompt is too long, the others are left out, one after
    the other; what belongs to no exchange stays: the system text."""
    cut_from: int | None = None
    """Where a prompt that is too long even so is cut: the text from this place on loses its
    beginning, since the answer continues its end. None: the prompt loses its end."""
    row: int | None = None
    """Number of its row in its file, from 0; None for what comes from no file."""

    @classmethod
    def asking(
        cls,
        row_id: str,
        prompt: MarkedText,
        cue: MarkedText = MarkedText(),
        choices: tuple[str, ...] = (),
    ) -> "Example":
        """Return an example whose answer is not known yet."""
        literals = Literals(prompt.literals, cue.literals)
        return cls(row_id, prompt.value, "", choices, cue.value, literals)

    @classmethod
    def continuing(
        cls, row_id: str, prompt: MarkedText, cue: MarkedText = MarkedText()
    ) -> "Example":
        """Return an example whose answer continues its prompt, unless a cue is between them."""
        return replace(cls.asking(row_id, prompt, cue), cut_from=None if cue.value else 0)

    def without_oldest(self, count: int) -> "Example":
        """Return the example without the oldest exchanges of its conversation."""
        removed = sorted(span for exchange in self.exchanges[:count] for span in exchange)
        prompt, done, num_before = MarkedText(), 0, 0
        for start, stop in removed:
            prompt += self.marked_prompt.part(done, start)
            done = stop
            num_before += stop - start if stop <= (self.cut_from or 0) else 0
        prompt += self.marked_prompt.part(done)
        return replace(
            self,
            prompt=prompt.value,
            literals=replace(self.literals, prompt=prompt.literals),
            exchanges=(),
            cut_from=None if self.cut_from is None else self.cut_from - num_before,
        )

    def with_target(self, target: MarkedText) -> "Example":
        """Return the example with its expected answer."""
        literals = replace(self.literals, target=target.literals)
        return replace(self, target=target.value, literals=literals)

    @property
    def marked_prompt(self) -> MarkedText:
        """The prompt, with the parts marked that a template wrote."""
        return MarkedText(self.prompt, self.literals.prompt)

    @property
    def marked_cue(self) -> MarkedText:
        """The cue, with the parts marked that a template wrote."""
        return MarkedText(self.cue, self.literals.cue)

    @property
    def marked_target(self) -> MarkedText:
        """The target, with the parts marked that a template wrote."""
        return MarkedText(self.target, self.literals.target)
