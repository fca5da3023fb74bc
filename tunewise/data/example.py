"""Examples: a task's rows as texts, with the parts marked that templates wrote."""

from dataclasses import dataclass, replace

Span = tuple[int, int]
"""A part of a text: the place of its first character, and that behind its last."""


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
    """Place of its row, `file:line`: no two examples of a split share it."""
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
