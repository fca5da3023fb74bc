"""Answers written out, to be compared with what was expected."""

from collections.abc import Sequence
from dataclasses import replace

from tunewise.data.encode import encode_prompts
from tunewise.data.example import Example
from tunewise.data.tokenizer import Tokenizer
from tunewise.generation.generate import generate
from tunewise.generation.stop import text_of
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.tasks import Answered


def complete(
    predictions: Sequence[Prediction],
    model: LanguageModel,
    task: Answered,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_length: int,
    prefix: Sequence[int],
    tokens_per_pass: int,
    seed: int,
) -> list[Prediction]:
    """Return the predictions with what the model writes as the answer to each example.

    Args:
        max_length: the most tokens of a prompt and its answer in training. Prompts are cut as they
            are there, to leave room for `decoding.max_new_tokens`; at least half of it is theirs.
        tokens_per_pass: bounds memory; the result does not depend on it.
    """
    decoding = task.decoding
    prompts = encode_prompts(examples, tokenizer, max_length, prefix, decoding.max_new_tokens).ids
    written = generate(model, prompts, tokenizer, decoding, seed, tokens_per_pass)
    answered = []
    for prediction, example, ids in zip(predictions, examples, written, strict=True):
        expected, predicted = task.judged(example, text_of(ids, tokenizer, decoding))
        given = example.prompt + example.cue
        answered.append(replace(prediction, expected=expected, predicted=predicted, prompt=given))
    return answered
