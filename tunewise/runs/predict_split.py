"""Predictions of a whole split during a run, shared between its processes."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tunewise.data.example import Example
from tunewise.data.rows import Split
from tunewise.errors import TrainingError, first_of
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.runs.predictions import compute, metrics_while_training, predict_examples
from tunewise.runs.prepare import Prepared
from tunewise.training.best import BestState
from tunewise.training.loop import Step
from tunewise.training.parallel import from_main, share_work

logger = logging.getLogger(__name__)

TRY_LOWER = "try a lower train.learning_rate, or look at the rows"
CHECK_WEIGHTS = "the weights of the base model are damaged, or too large; take another model"


def validate_model(prepared: Prepared, model: LanguageModel, step: Step | None) -> dict[str, float]:
    """Return the metrics of the validation split that are computed while training.

    Where the model's outputs are not finite they are nan: the likeliest of labels, say, is then
    just the first of them, and may be right.

    Args:
        step: the update after which the model is evaluated; None before any.

    Raises:
        TrainingError: if the outputs are not finite and `train.on_nan` is `stop`.
    """
    names = metrics_while_training(prepared.config)
    predictions = predict_split(prepared, model, "validation", names)
    if rows := rows_not_finite(predictions):
        when = "before any update" if step is None else f"after update {step.number}"
        rate = "" if step is None else f" at learning rate {step.learning_rate:g}"
        problem = f"validation {when}: {_found(rows, predictions)}{rate}"
        if step is None or prepared.config.train.on_nan == "stop":
            raise TrainingError(f"{problem}; {TRY_LOWER if step else CHECK_WEIGHTS}")
        logger.warning("%s: this state cannot be the best", problem)
        return dict.fromkeys(names, math.nan)
    return compute(names, predictions)


def predict_test(prepared: Prepared, model: LanguageModel, best: BestState) -> list[Prediction]:
    """Return one prediction per example of the test split, by a model in its best state.

    Raises:
        TrainingError: if its outputs are not finite.
    """
    predictions = predict_split(prepared, model, "test", prepared.config.task.metrics)
    if rows := rows_not_finite(predictions):
        found = _found(rows, predictions)
        advice = TRY_LOWER if best.step else CHECK_WEIGHTS
        raise TrainingError(f"test with the state after update {best.step}: {found}; {advice}")
    return predictions


def rows_not_finite(predictions: Sequence[Prediction]) -> list[str]:
    """Return the ids of the examples whose log-likelihood is not finite."""
    return [p.id for p in predictions if not math.isfinite(p.log_likelihood)]


def _found(rows: Sequence[str], predictions: Sequence[Prediction]) -> str:
    count = f"{len(rows):,} of {len(predictions):,} rows"
    return f"the model's outputs are not finite for {count} ({first_of(rows)})"


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
