"""No answers: the texts are only learned."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunewise.data.cache import Ids
from tunewise.data.example import Example
from tunewise.errors import ConfigError
from tunewise.evaluation.answers.kind import Answer, AnswerKind, Inference


@dataclass(frozen=True)
class NoAnswer(AnswerKind):
    """Nothing: evaluation only measures how likely the text is."""

    def answer_prompts(
        self, inference: Inference, examples: Sequence[Example], prompts: Sequence[Ids]
    ) -> list[Answer]:
        """Raise ConfigError, since there is nothing to answer."""
        raise ConfigError("the task answers nothing")
