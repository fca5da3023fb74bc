"""No answers: texts that are only learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunewise.data.cache import Ids
from tunewise.data.example import Example
from tunewise.errors import ConfigError
from tunewise.evaluation.answers.kind import Answer, AnswerKind, Inference


@dataclass(frozen=True)
class NoAnswer(AnswerKind):
    """Nothing: evaluation only says how likely the text is."""

    def answer_prompts(
        self, inference: Inference, examples: Sequence[Example], prompts: Sequence[Ids]
    ) -> list[Answer]:
        """Raise ConfigError, since there is nothing to answer."""
        raise ConfigError("the task answers nothing")
