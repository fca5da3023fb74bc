"""The end of a run: its predictions, trained weights and result.json are written."""

import math
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from tunewise.config import RunConfig
from tunewise.data.encode import EncodedSplit
from tunewise.data.example import Example
from tunewise.device import describe
from tunewise.memory import peak_bytes
from tunewise.metrics import METRICS, Prediction, interval
from tunewise.metrics.classification import confusion_matrix, per_class
from tunewise.models import LanguageModel
from tunewise.runs.folder import (
    PREDICTIONS_FILE,
    write_predictions,
    write_result,
)
from tunewise.runs.lengthen import clear_checkpoints
from tunewise.runs.model import save_trained
from tunewise.runs.origin import hash_examples
from tunewise.runs.predictions import compute
from tunewise.runs.prepare import Prepared
from tunewise.runs.result import (
    Best,
    ClassScores,
    Confusion,
    Environment,
    Estimate,
    Memory,
    Parameters,
    Result,
    SplitSize,
    Tables,
    Time,
    Tokens,
)
from tunewise.training.best import BestState
from tunewise.training.loop import Step
from tunewise.training.parallel import num_launched


def finish(
    prepared: Prepared,
    model: LanguageModel,
    folder: Path,
    *,
    estimate: Estimate,
    steps: Sequence[Step],
    best: BestState,
    tested: Sequence[Prediction] | None,
    frozen_seconds: float,
    evaluation_seconds: float,
    version: str,
    keep_weights: bool,
) -> Result:
    """Write the files of a finished run, delete its checkpoints, and return its result.

    Args:
        best: the best state, which is in the model.
        tested: one prediction per example of the test split; None if it was not read.
        frozen_seconds: time spent on the output of frozen blocks.
        evaluation_seconds: time spent on all evaluations.
        version: the version of this package.
        keep_weights: whether the trained weights are written.
    """
    config, device, predictions = prepared.config, prepared.device, tested or ()
    write_predictions(folder / PREDICTIONS_FILE, predictions)
    if keep_weights:
        save_trained(model, config, folder, prepared.tokenizer)
    metrics = {"validation": best.metrics}
    if tested is not None:
        metrics["test"] = compute(config.task.metrics, tested)
    train_seconds = sum(step.seconds for step in steps)
    num_tokens = sum(step.num_tokens for step in steps)
    total, trainable = model.count_parameters()
    result = Result(
        name=prepared.name,
        status="finished",
        config=config,
        parameters=Parameters(total=total, trainable=trainable, percent=100 * trainable / total),
        data={
            split: _split_size(encoded, prepared.examples[split])
            for split, encoded in prepared.encoded.items()
        },
        metrics=metrics,
        intervals={
            "test": {
                metric: interval(METRICS[metric], predictions, config.seed)
                for metric in metrics.get("test", ())
            }
        },
        tables=None if tested is None else label_tables(config, tested),
        best=Best(epoch=best.epoch, step=best.step, metric=config.metric, value=best.value),
        time=Time(
            train_seconds=train_seconds,
            frozen_seconds=frozen_seconds,
            epoch_seconds=_seconds_per_epoch(steps),
            evaluation_seconds=evaluation_seconds,
        ),
        memory=Memory(peak_bytes=peak_bytes(device), device=describe(device)),
        estimate=estimate,
        tokens=Tokens(trained=num_tokens, per_second=num_tokens / train_seconds if steps else 0.0),
        updates_left_out=sum(not math.isfinite(step.loss + step.grad_norm) for step in steps),
        environment=_environment(config, device, version),
    )
    write_result(folder, result)
    clear_checkpoints(config, model, folder)
    return result


def label_tables(config: RunConfig, predictions: Sequence[Prediction]) -> Tables | None:
    """Return the scores and confusions of each label; None for a task without labels."""
    if not config.task.answer_kind.has_labels:
        return None
    labels = config.task.label_names or ()
    scores = per_class(predictions, labels)
    return Tables(
        per_class={label: ClassScores(**values) for label, values in scores.items()},
        confusion=Confusion.model_validate(confusion_matrix(predictions, labels)),
    )


def _environment(config: RunConfig, device: torch.device, version: str) -> Environment:
    count = f"{num_launched()} x " if num_launched() > 1 else ""
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        tunewise=version,
        device=f"{count}{describe(device)}",
        precision=config.train.precision,
        seed=config.seed,
    )


def _seconds_per_epoch(steps: Sequence[Step]) -> list[float]:
    seconds = [0.0] * (steps[-1].epoch if steps else 0)
    for step in steps:
        seconds[step.epoch - 1] += step.seconds
    return seconds


def _split_size(encoded: EncodedSplit, examples: Sequence[Example]) -> SplitSize:
    return SplitSize(
        examples=len(examples),
        sequences=len(encoded.sequences),
        tokens=sum(len(sequence.ids) for sequence in encoded.sequences),
        truncated=encoded.num_truncated,
        tokens_cut=encoded.num_tokens_cut,
        hash=hash_examples(examples),
    )
