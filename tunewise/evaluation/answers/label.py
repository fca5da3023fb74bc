"""Label answers: one of the labels of a new output layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tunewise.data.cache import Ids
from tunewise.data.encode import Encoded
from tunewise.data.example import Example
from tunewise.evaluation.answers.kind import Answer, AnswerKind, Inference
from tunewise.evaluation.evaluate import label_probabilities, scored_states


@dataclass(frozen=True)
class LabelAnswer(AnswerKind):
    """A label of a new output layer, read off a text's last token."""

    has_labels: ClassVar[bool] = True
    uses_label_layer: ClassVar[bool] = True

    def answer_prompts(
        self, inference: Inference, examples: Sequence[Example], prompts: Sequence[Ids]
    ) -> list[Answer]:
        """Return the likeliest label of each example, and the probabilities of all."""
        return likeliest_answers(examples, _probabilities(inference, prompts))


def likeliest_answers(
    examples: Sequence[Example], probabilities: Sequence[Sequence[float]]
) -> list[Answer]:
    """Return the likeliest choice of each example, and the probabilities of all its choices."""
    answers: list[Answer] = []
    for example, values in zip(examples, probabilities, strict=True):
        names = [choice.strip() for choice in example.choices]
        label = names[values.index(max(values))]
        by_name = dict(zip(names, values, strict=True))
        assert len(by_name) == len(values), f"two choices have one name: {names}"
        answers.append(
            Answer(id=example.id, row=example.row, predicted=label, probabilities=by_name)
        )
    return answers


def _probabilities(inference: Inference, prompts: Sequence[Ids]) -> list[list[float]]:
    """Return the probability of every label, for each prompt."""
    by_prompt: dict[int, list[float]] = {}
    sequences = [Encoded.prompt(ids) for ids in prompts]
    for states in scored_states(inference.model, sequences, inference.tokens_per_pass):
        of_labels = label_probabilities(inference.model, states.hidden)  # (M, labels)
        by_prompt |= zip(states.owners, of_labels.tolist(), strict=True)
    return [by_prompt[index] for index in range(len(prompts))]
