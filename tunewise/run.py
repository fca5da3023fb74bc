"""One run, from a configuration to a result: `run` is the whole story."""

import logging
import math
import platform
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch

import tunewise
from tunewise.config import RunConfig
from tunewise.data.encode import EncodedSplit
from tunewise.data.example import Example
from tunewise.data.rows import SPLITS, Split
from tunewise.device import choose_device, choose_dtype, describe
from tunewise.errors import TrainingError
from tunewise.estimate import estimate_run, warn_of_memory
from tunewise.memory import peak_bytes, reset_peak_bytes
from tunewise.metrics import METRICS, Prediction, interval
from tunewise.metrics.classification import confusion_matrix, per_class
from tunewise.models import LanguageModel
from tunewise.runs.answer import (
    check_metrics,
    compute,
    metrics_while_training,
    predict_examples,
)
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    METRICS_FILE,
    PREDICTIONS_FILE,
    append_line,
    locked,
    read_lines,
    read_predictions,
    read_result,
    run_folder,
    write_predictions,
    write_result,
)
from tunewise.runs.interrupts import stop_requests
from tunewise.runs.memo import Shared
from tunewise.runs.model import adapted_model, save_trained
from tunewise.runs.prepare import Prepared, prepare
from tunewise.runs.progress import Progress
from tunewise.runs.result import (
    Best,
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
from tunewise.runs.resume import Saver, begin_or_go_on, fingerprint, last_checkpoint, read_steps
from tunewise.runs.tracking import Tracking, check_trackers, tracked
from tunewise.training.best import BestState
from tunewise.training.frozen_blocks import with_frozen_states
from tunewise.training.loop import Step, train, updates_per_epoch
from tunewise.training.optimizer import build_optimizer
from tunewise.training.parallel import (
    anywhere,
    from_main,
    is_main,
    join_others,
    main_first,
    num_launched,
    shared_out,
)

logger = logging.getLogger(__name__)


class Stopwatch:
    """Seconds spent inside its `with` blocks, summed."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


@dataclass(frozen=True)
class RunRecord:
    """What a run left: in memory, and in its folder."""

    folder: Path
    result: Result
    steps: list[Step]
    predictions: list[Prediction]
    """Of the test split; none if it was not read."""


def run(
    config: RunConfig,
    data: Path | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    shared: Shared | None = None,
    read_test: bool = True,
    resume: bool = False,
) -> RunRecord:
    """Train, evaluate and keep one set-up; return its record.

    The validation split chooses the best state; the test split is read once, at the end, with it.

    Args:
        data: the folder in which a named task's rows are searched.
        out: the folder to leave everything in; must be new or empty. Without it, runs/NAME.
        progress: where to show how far it is.
        shared: what other runs of this process have read.
        read_test: whether the test split is read; not for a candidate that is only compared on
            validation data.
        resume: go on from the folder's last checkpoint, to the same result as without a stop.

    Raises:
        TunewiseError: if the configuration, the model or the data cannot be used, or are not those
            of the run to be resumed.
        KeyboardInterrupt: if the run was asked to stop, after a checkpoint was written.
    """
    check_metrics(config)
    check_trackers(config)
    join_others()
    device, shared = choose_device(), shared or Shared()
    reset_peak_bytes(device)
    prepared = prepare(config, data, device, shared, SPLITS if read_test else SPLITS[:2])
    expected = from_main(partial(estimate_run, prepared, shared))
    warn_of_memory(expected, device)
    model = _model(prepared)
    folder = from_main(partial(run_folder, out, prepared.name, resume))
    with locked(folder) if is_main() else nullcontext():
        from_main(partial(begin_or_go_on, prepared.config, folder))
        if (result := from_main(partial(read_result, folder))) is not None:
            return _record(folder, result)
        preparing = Stopwatch()
        with preparing:
            encoded = main_first(partial(with_prefix, prepared.config, model, prepared.encoded))
            prepared = replace(prepared, encoded=encoded)
        with tracked(prepared.config, folder) as tracking:
            try:
                trained = _trained(prepared, model, folder, progress or Progress(), tracking)
            except TrainingError as error:
                raise TrainingError(f"{error}{last_checkpoint(folder)}") from error
            tested = _tested(prepared, model, trained) if read_test else None
            times = expected, preparing.seconds
            result = from_main(partial(_finished, prepared, model, folder, trained, tested, *times))
            tracking.metrics("test", result.metrics.get("test", {}), len(trained.steps))
        return _record(folder, result)


def _model(prepared: Prepared) -> LanguageModel:
    """Return the adapted model on its device, ready to be trained."""
    config = prepared.config
    torch.manual_seed(config.seed)  # dropout draws from the global source
    model = adapted_model(config, prepared.source, prepared.tokenizer)
    model.set_precision(choose_dtype(config.train.precision, prepared.device))
    model.to(prepared.device)
    model.set_dropout(config.train.dropout)
    model.checkpointing = config.train.checkpointing
    return model


def _answers(
    prepared: Prepared, model: LanguageModel, split: Split, metrics: Sequence[str]
) -> list[Prediction]:
    """Return one prediction per example of a split, by the model as it is now."""
    config, encoded = prepared.config, prepared.encoded[split]

    def answered(examples: Sequence[Example]) -> list[Prediction]:
        ids = {example.id for example in examples}
        sequences = [some for some in encoded.sequences if some.example_id in ids]
        own = replace(encoded, sequences=sequences)
        return predict_examples(prepared, model, examples, own, metrics)

    examples = prepared.examples[split]
    if config.task.answer.depends_on_place:
        # What is drawn depends on an example's place among all.
        return from_main(partial(answered, examples))
    return shared_out(examples, lambda example: len(example.prompt), answered)


@dataclass(frozen=True)
class Trained:
    """What training left, with the best state in the model."""

    steps: list[Step]
    best: BestState
    validation: dict[str, float]
    """Of the best state."""
    evaluation: Stopwatch


def _trained(
    prepared: Prepared, model: LanguageModel, folder: Path, progress: Progress, tracking: Tracking
) -> Trained:
    """Train, from the last checkpoint if there is one, and put the best state into the model."""
    config = prepared.config
    sequences = prepared.encoded["train"].sequences
    per_epoch = updates_per_epoch(len(sequences), config.train)
    num_updates = config.train.epochs * per_epoch
    while_training = metrics_while_training(config)
    best = BestState(METRICS[config.metric])
    optimizer = build_optimizer(model, config.train)
    saver = Saver(folder, model, optimizer, best, fingerprint(prepared.encoded), config.train)
    steps, validation, seconds = saver.go_on()
    evaluation = Stopwatch(seconds)
    for line in read_lines(folder / METRICS_FILE):
        tracking.line(line)

    def keep(line: dict[str, Any]) -> None:
        if is_main():
            append_line(folder / METRICS_FILE, line)
        tracking.line(line)

    def evaluated(step: Step | None) -> dict[str, float]:
        with evaluation:
            values = compute(
                while_training, _answers(prepared, model, "validation", while_training)
            )
        is_best = best.offer(model, values[config.metric], step)
        if step is not None:
            progress.evaluated(step, values, is_best)
            keep({"number": step.number, "epoch": step.epoch, "validation": values})
        return values if is_best else validation

    if not num_updates:
        validation = evaluated(None)
    stopping = config.train.early_stopping
    with progress.updates(num_updates), stop_requests() as requested:
        for step in train(model, sequences, config.train, config.seed, optimizer, len(steps)):
            steps.append(step)
            progress.step(step)
            keep(asdict(step))
            every = config.train.evaluate_every or per_epoch
            if step.number % every == 0 or step.number == num_updates:
                validation = evaluated(step)
            if stopping and best.evaluations_since >= stopping.patience:
                logger.info("stopped early: no better %s since update %d", config.metric, best.step)
                break
            stop = anywhere(bool(requested))
            from_main(partial(saver.offer, step.number, validation, evaluation.seconds, stop))
            if stop:
                raise KeyboardInterrupt
    best.restore(model)
    return Trained(steps, best, validation, evaluation)


def _tested(prepared: Prepared, model: LanguageModel, trained: Trained) -> list[Prediction]:
    """Return one prediction per example of the test split, by the best state."""
    with trained.evaluation:
        return _answers(prepared, model, "test", prepared.config.task.metrics)


def _finished(
    prepared: Prepared,
    model: LanguageModel,
    folder: Path,
    trained: Trained,
    tested: list[Prediction] | None,
    expected: Estimate,
    prefix_seconds: float,
) -> Result:
    """Write everything down, and return the result."""
    config, steps, best = prepared.config, trained.steps, trained.best
    metrics: dict[str, dict[str, float]] = {"validation": trained.validation}
    if tested is not None:
        metrics["test"] = compute(config.task.metrics, tested)
    predictions = tested or []
    write_predictions(folder / PREDICTIONS_FILE, predictions)
    save_trained(model, config, folder, prepared.tokenizer)
    train_seconds = sum(step.seconds for step in steps)
    num_tokens = sum(step.num_tokens for step in steps)
    total, trainable = model.count_parameters()
    device = prepared.device
    result = Result(
        name=prepared.name,
        status="finished",
        config=config,
        parameters=Parameters(total=total, trainable=trainable, percent=100 * trainable / total),
        data={
            split: _size(prepared.encoded[split], len(prepared.examples[split]))
            for split in prepared.encoded
        },
        metrics=metrics,
        intervals={
            "test": {
                metric: interval(METRICS[metric], predictions, config.seed)
                for metric in metrics.get("test", ())
            }
        },
        tables=None if tested is None else tables(config, tested),
        best=Best(epoch=best.epoch, step=best.step, metric=config.metric, value=best.value),
        time=Time(
            train_seconds=train_seconds,
            prefix_seconds=prefix_seconds,
            epoch_seconds=_per_epoch(steps),
            evaluation_seconds=trained.evaluation.seconds,
        ),
        memory=Memory(peak_bytes=peak_bytes(device), device=describe(device)),
        estimate=expected,
        tokens=Tokens(trained=num_tokens, per_second=num_tokens / train_seconds if steps else 0.0),
        updates_left_out=sum(not math.isfinite(step.loss + step.grad_norm) for step in steps),
        environment=Environment(
            python=platform.python_version(),
            torch=torch.__version__,
            tunewise=tunewise.__version__,
            device=f"{num_launched()} x {describe(device)}"
            if num_launched() > 1
            else describe(device),
            precision=config.train.precision,
            seed=config.seed,
        ),
    )
    write_result(folder, result)
    rmtree(folder / CHECKPOINT_FOLDER, ignore_errors=True)  # a finished run needs none
    return result


def _record(folder: Path, result: Result) -> RunRecord:
    """Return what a finished run has left in its folder."""
    predictions = read_predictions(folder / PREDICTIONS_FILE)
    return RunRecord(folder, result, read_steps(folder), predictions)


def with_prefix(
    config: RunConfig, model: LanguageModel, encoded: dict[Split, EncodedSplit]
) -> dict[Split, EncodedSplit]:
    """Return the splits with the output of the model's frozen first blocks, where that is kept."""
    # Choices are read behind each prompt anew: only training sees the sequences themselves.
    splits = tuple(encoded) if config.task.answer.reads_sequences else ("train",)
    limits = config.train.tokens_per_pass, config.train.prefix_cache
    sequences = {split: encoded[split].sequences for split in splits}
    known = with_frozen_states(model, sequences, *limits)
    return encoded | {split: replace(encoded[split], sequences=known[split]) for split in known}


def tables(config: RunConfig, predictions: Sequence[Prediction]) -> Tables | None:
    """Return how each label fares, for a task with labels."""
    if not config.task.answer.has_labels:
        return None
    labels = config.task.label_names or ()
    return Tables(
        per_class=per_class(predictions, labels),
        confusion=confusion_matrix(predictions, labels),
    )


def _per_epoch(steps: Sequence[Step]) -> list[float]:
    seconds = [0.0] * (steps[-1].epoch if steps else 0)
    for step in steps:
        seconds[step.epoch - 1] += step.seconds
    return seconds


def _size(encoded: EncodedSplit, num_examples: int) -> SplitSize:
    return SplitSize(
        examples=num_examples,
        sequences=len(encoded.sequences),
        tokens=sum(len(sequence.ids) for sequence in encoded.sequences),
        truncated=encoded.num_truncated,
        tokens_cut=encoded.num_tokens_cut,
    )
