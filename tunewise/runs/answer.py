"""What a model is given in a run, and what it answers."""

import logging
from collections.abc import Sequence

from tunewise.config import RunConfig
from tunewise.data.encode import EncodedSplit
from tunewise.data.example import Example
from tunewise.data.rows import Split
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError
from tunewise.evaluation.choices import choose
from tunewise.evaluation.complete import complete
from tunewise.evaluation.evaluate import evaluate
from tunewise.metrics import METRICS, Prediction
from tunewise.models import LanguageModel, ModelConfig
from tunewise.tasks import Answered

logger = logging.getLogger(__name__)


def room(config: RunConfig, model: ModelConfig) -> int:
    """Return the most tokens of a sequence: as asked, else as suits the task, else what fits.

    A method's virtual tokens count, whether they have ids or are keys and values alone.

    Raises:
        ConfigError: if more are asked for than the model has positions, or too few for any text.
    """
    context, positions = model.context_length, config.method.num_prefix_positions
    num_virtual = config.method.num_virtual_ids + positions
    max_length = config.train.max_length or min(config.task.max_length or context, context)
    if max_length > context:
        raise ConfigError(f"train.max_length: {max_length}; the model has {context} positions")
    if max_length < num_virtual + 2:
        raise ConfigError(
            f"train.max_length: {max_length} leaves no room for text behind "
            f"{num_virtual} virtual tokens"
        )
    return max_length - positions


def virtual_tokens(config: RunConfig, model: ModelConfig) -> range:
    """Return the ids of the method's prefix, which lie past the vocabulary."""
    first = model.vocabulary_size
    return range(first, first + config.method.num_virtual_ids)


def encode(
    config: RunConfig,
    split: Split,
    examples: Sequence[Example],
    model: ModelConfig,
    tokenizer: Tokenizer,
) -> EncodedSplit:
    """Return a split as tokens, behind the method's prefix; what had to be cut is said aloud."""
    max_length, prefix = room(config, model), virtual_tokens(config, model)
    encoded = config.task.encode(examples, tokenizer, max_length, prefix)
    if encoded.num_truncated:
        logger.warning(
            "%s: %d of %d examples are longer than %d tokens; %d tokens in all are cut",
            *(split, encoded.num_truncated, len(examples), max_length, encoded.num_tokens_cut),
        )
    return encoded


def check_metrics(config: RunConfig) -> None:
    """Return if the task's metrics can be computed here.

    Raises:
        ConfigError: if one needs a library that is not installed.
    """
    for name in config.task.metrics:
        METRICS[name].check()


def metrics_while_training(config: RunConfig) -> tuple[str, ...]:
    """Return what is computed on validation data; texts are written if one chooses the best."""
    if METRICS[config.metric].of == "text":
        return config.task.metrics
    return tuple(name for name in config.task.metrics if METRICS[name].of != "text")


def answer(
    config: RunConfig,
    model: LanguageModel,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    encoded: EncodedSplit,
    metrics: Sequence[str],
) -> list[Prediction]:
    """Return one prediction per example; texts are written out only if a metric asks for them."""
    task, tokens_per_pass = config.task, config.train.tokens_per_pass
    max_length, prefix = room(config, model.config), virtual_tokens(config, model.config)
    if task.answer == "choice":
        return choose(model, examples, tokenizer, max_length, prefix, tokens_per_pass)
    predictions = evaluate(model, examples, encoded.sequences, tokens_per_pass)
    if isinstance(task, Answered) and any(METRICS[name].of == "text" for name in metrics):
        return complete(
            predictions,
            *(model, task, examples, tokenizer, max_length, prefix, tokens_per_pass, config.seed),
        )
    return predictions


def compute(metrics: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return some metrics of predictions."""
    return {name: METRICS[name].compute(predictions) for name in metrics}
