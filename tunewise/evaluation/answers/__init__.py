"""The kinds of answers, one file each. A kind of task names the one that it has."""

from tunewise.evaluation.answers.choice import ChoiceAnswer
from tunewise.evaluation.answers.kind import Answer, AnswerKind, Inference, NewAnswers
from tunewise.evaluation.answers.label import LabelAnswer
from tunewise.evaluation.answers.nothing import NoAnswer
from tunewise.evaluation.answers.text import ComparedTexts, TextAnswer

__all__ = [
    "Answer",
    "AnswerKind",
    "ChoiceAnswer",
    "ComparedTexts",
    "Inference",
    "LabelAnswer",
    "NewAnswers",
    "NoAnswer",
    "TextAnswer",
]
