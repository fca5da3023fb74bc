"""Answers chosen among a few texts, by how likely the model finds each as the continuation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tunewise.data.cache import Ids
from tunewise.data.encode import Encoded, encode_prompts, joined
from tunewise.data.example import Example
from tunewise.data.tokenizer import Tokenizer
from tunewise.evaluation.evaluate import score_sequences, scored_states
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.models.fast.loss import logits_of


def choose(
    model: LanguageModel,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_length: int,
    prefix: Sequence[int],
    tokens_per_pass: int,
) -> list[Prediction]:
    """Return the likeliest choice of each example.

    The log-likelihood of what was expected is log(p(expected) / Σ p(choice)), over the choices;
    p(choice) is the product of the probabilities of its tokens.

    Args:
        examples: all with the same choices.
        max_length: the most tokens of prefix, prompt and choice. A longer prompt is cut, by as much
            for every choice.
        tokens_per_pass: the most tokens of one forward pass; the result does not depend on it.
    """
    texts = examples[0].choices
    choices = tokenizer.encode(texts)
    prompts = encode_prompts(examples, tokenizer, max_length, prefix, max(map(len, choices))).ids
    log_shares = log_shares_of(model, prompts, choices, tokens_per_pass)  # (E, C)
    return [
        Prediction(
            example_id=example.id,
            expected=example.target.strip(),
            predicted=texts[int(shares.argmax())].strip(),
            log_likelihood=float(shares[texts.index(example.target)]),
            num_scored=1,
        )
        for example, shares in zip(examples, log_shares, strict=True)
    ]


def log_shares_of(
    model: LanguageModel,
    prompts: Sequence[Ids],
    choices: Sequence[Sequence[int]],
    tokens_per_pass: int,
) -> Tensor:
    """Return (E, C) logarithms of p(choice) / Σ p(choice) behind each prompt, in fp64."""
    if all(len(ids) == 1 for ids in choices):
        scores = _of_next_token(model, prompts, [ids[0] for ids in choices], tokens_per_pass)
    else:
        scores = _of_whole_texts(model, prompts, choices, tokens_per_pass)
    return scores.double().log_softmax(-1)


def _of_next_token(
    model: LanguageModel, prompts: Sequence[Ids], answers: Sequence[int], tokens_per_pass: int
) -> Tensor:
    """Return (E, C) logits: one pass over each prompt answers for all choices."""
    scores = torch.empty(len(prompts), len(answers))
    # As in a classifier, only the last token is scored; against which label is of no matter.
    sequences = [Encoded(str(index), ids, len(ids), 0) for index, ids in enumerate(prompts)]
    for hidden, _, owners in scored_states(model, sequences, tokens_per_pass):
        ids = torch.tensor(answers, device=hidden.device)
        scores[owners] = logits_of(model, hidden, ids).cpu()
    return scores


def _of_whole_texts(
    model: LanguageModel,
    prompts: Sequence[Ids],
    choices: Sequence[Sequence[int]],
    tokens_per_pass: int,
) -> Tensor:
    """Return (E, C) log-likelihoods: each choice is read behind each prompt."""
    sequences = [
        Encoded(f"{index}:{number}", joined(prompt, choice), len(prompt))
        for index, prompt in enumerate(prompts)
        for number, choice in enumerate(choices)
    ]
    scores = score_sequences(model, sequences, tokens_per_pass)
    values = torch.tensor([score.log_likelihood for score in scores])
    return values.view(len(prompts), len(choices))
