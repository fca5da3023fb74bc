"""Predictions of a run's model, and their metrics."""

from collections.abc import Sequence

from tunewise.config import RunConfig
from tunewise.data.encode import EncodedSplit
from tunewise.data.example import Example
from tunewise.evaluation.answers import Inference
from tunewise.metrics import METRICS, Prediction
from tunewise.models import LanguageModel
from tunewise.runs.prepare import Prepared


def check_metrics(config: RunConfig) -> None:
    """Raise ConfigError if a metric of the task needs a library that is not installed."""
    for name in config.task.metrics:
        METRICS[name].check()


def metrics_while_training(config: RunConfig) -> tuple[str, ...]:
    """Return the metrics of validation data; those of texts only if one chooses the best state."""
    if METRICS[config.metric].of == "text":
        return config.task.metrics
    return tuple(name for name in config.task.metrics if METRICS[name].of != "text")


def predict_examples(
    prepared: Prepared,
    model: LanguageModel,
    examples: Sequence[Example],
    encoded: EncodedSplit,
    metrics: Sequence[str],
) -> list[Prediction]:
    """Return one prediction per example; texts are written out only if a metric asks for them."""
    config = prepared.config
    inference = Inference(
        model, prepared.tokenizer, prepared.layout, config.train.tokens_per_pass, config.seed
    )
    write_texts = any(METRICS[name].of == "text" for name in metrics)
    return config.task.answer_kind.evaluate(inference, examples, encoded.sequences, write_texts)


def compute(metrics: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return the value of each named metric for these predictions."""
    return {name: METRICS[name].compute(predictions) for name in metrics}
