"""Choice answers: one of a few texts, the likeliest as a continuation of the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tunewise.data.cache import Ids
from tunewise.data.encode import Encoded, join_ids
from tunewise.data.example import Example, MarkedText
from tunewise.data.tokenizer import Tokenizer
from tunewise.evaluation.answers.kind import Answer, AnswerKind, Inference
from tunewise.evaluation.answers.label import likeliest_answers
from tunewise.evaluation.evaluate import score_sequences, scored_states
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.models.fast.loss import logits_of


@dataclass(frozen=True)
class ChoiceAnswer(AnswerKind):
    """One of a few texts, the same for all examples: the likeliest continuation of the prompt."""

    choices: tuple[str, ...]

    has_labels: ClassVar[bool] = True
    reads_sequences: ClassVar[bool] = False
    """Each choice is read behind the prompt again."""

    def reserved(self, tokenizer: Tokenizer) -> int:
        """Return the number of ids of the longest choice: a prompt is cut alike for all."""
        return max(map(len, self.ids(tokenizer)))

    def ids(self, tokenizer: Tokenizer) -> list[list[int]]:
        """Return the ids of each choice."""
        return tokenizer.tokenize([MarkedText.literal(choice) for choice in self.choices])

    def evaluate(
        self,
        inference: Inference,
        examples: Sequence[Example],
        sequences: Sequence[Encoded],
        write_texts: bool,
    ) -> list[Prediction]:
        """Return the likeliest choice of each example.

        The log-likelihood of the expected choice is log(p(expected) / Σ p(choice)), over the
        choices; p(choice) is the product of the probabilities of its tokens.
        """
        log_shares = self._log_shares(inference, self.prompts(inference, examples).ids)
        names = [choice.strip() for choice in self.choices]
        return [
            Prediction(
                id=example.id,
                expected=example.target.strip(),
                predicted=names[int(shares.argmax())],
                log_likelihood=float(shares[self.choices.index(example.target)]),
                num_scored=1,
                probabilities=dict(zip(names, shares.exp().tolist(), strict=True)),
                row=example.row,
            )
            for example, shares in zip(examples, log_shares, strict=True)
        ]

    def answer_prompts(
        self, inference: Inference, examples: Sequence[Example], prompts: Sequence[Ids]
    ) -> list[Answer]:
        """Return the likeliest choice for each example, and the shares of all."""
        return likeliest_answers(examples, self._log_shares(inference, prompts).exp().tolist())

    def _log_shares(self, inference: Inference, prompts: Sequence[Ids]) -> Tensor:
        """Return (E, C) logarithms of p(choice) / Σ p(choice) behind each prompt, in fp64."""
        choices = self.ids(inference.tokenizer)
        if all(len(ids) == 1 for ids in choices):
            of_choices = [ids[0] for ids in choices]
            scores = _score_next_token(
                inference.model, prompts, of_choices, inference.tokens_per_pass
            )
        else:
            scores = _score_whole_texts(
                inference.model, prompts, choices, inference.tokens_per_pass
            )
        return scores.double().log_softmax(-1)


def _score_next_token(
    model: LanguageModel, prompts: Sequence[Ids], choices: Sequence[int], tokens_per_pass: int
) -> Tensor:
    """Return (E, C) logits: one pass over each prompt gives those of all choices."""
    scores = torch.empty(len(prompts), len(choices))
    sequences = [Encoded.prompt(ids) for ids in prompts]
    for states in scored_states(model, sequences, tokens_per_pass):
        ids = torch.tensor(choices, device=states.hidden.device)
        scores[states.owners] = logits_of(model, states.hidden, ids).cpu()
    return scores


def _score_whole_texts(
    model: LanguageModel,
    prompts: Sequence[Ids],
    choices: Sequence[Sequence[int]],
    tokens_per_pass: int,
) -> Tensor:
    """Return (E, C) log-likelihoods: each choice is read behind each prompt."""
    sequences = [
        Encoded(f"{index}:{number}", join_ids(prompt, choice), len(prompt))
        for index, prompt in enumerate(prompts)
        for number, choice in enumerate(choices)
    ]
    scores = score_sequences(model, sequences, tokens_per_pass)
    values = torch.tensor([score.log_likelihood for score in scores])
    return values.view(len(prompts), len(choices))
