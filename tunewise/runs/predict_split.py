"""Predictions of a whole split during a run, shared between its processes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tunewise.data.example import Example
from tunewise.data.rows import Split
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.runs.predictions import compute, metrics_while_training, predict_examples
from tunewise.runs.prepare import Prepared
from tunewise.training.parallel import from_main, share_work


def validate_model(prepared: Prepared, model: LanguageModel) -> dict[str, float]:
    """Return the metrics of the validation split that are computed while training."""
    names = metrics_while_training(prepared.config)
    return compute(names, predict_split(prepared, model, "validation", names))


def predict_split(
    prepared: Prepared, model: LanguageModel, split: Split, metrics: Sequence[str]
) -> list[Prediction]:
    """Return one prediction per example of a split, by the model as it is now.

    Args:
        metrics: the metrics to be computed; texts are written only if one needs them.
    """
    examples = prepared.examples[split]
    work = partial(_predict_some, prepared, model, split, metrics)
    if prepared.config.task.answer_kind.depends_on_place:
        # What is sampled depends on the place of the example among all, so nothing is divided.
        return from_main(work, examples)
    return share_work(examples, lambda example: len(example.prompt), work)


def _predict_some(
    prepared: Prepared,
    model: LanguageModel,
    split: Split,
    metrics: Sequence[str],
    examples: Sequence[Example],
) -> list[Prediction]:
    """Return one prediction for each of some examples of a split."""
    ids, encoded = {example.id for example in examples}, prepared.encoded[split]
    own = [sequence for sequence in encoded.sequences if sequence.example_id in ids]
    encoded = replace(encoded, sequences=own)
    return predict_examples(prepared, model, examples, encoded, metrics)
