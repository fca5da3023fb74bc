"""One run, from a configuration to a result: `run` is the whole story."""

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

import tunewise
from tunewise.config import RunConfig
from tunewise.data.rows import SPLITS
from tunewise.device import choose_device, choose_dtype
from tunewise.errors import TrainingError
from tunewise.estimate import estimate_run, warn_of_memory
from tunewise.memory import reset_peak_bytes
from tunewise.metrics import METRICS, Prediction
from tunewise.models import LanguageModel
from tunewise.runs.begin_from import beginning_model
from tunewise.runs.finish import finish
from tunewise.runs.folder import (
    PREDICTIONS_FILE,
    locked,
    numbered,
    read_predictions,
    read_result,
    refuse_used,
    run_folder,
)
from tunewise.runs.frozen_states import add_frozen_states
from tunewise.runs.interrupts import stop_requests
from tunewise.runs.lengthen import keeps_checkpoint
from tunewise.runs.memo import Shared
from tunewise.runs.opening import opening_lines
from tunewise.runs.origin import kept_data
from tunewise.runs.predict_split import predict_test, validate_model
from tunewise.runs.predictions import check_metrics
from tunewise.runs.prepare import Prepared, prepare, run_name
from tunewise.runs.progress import Progress
from tunewise.runs.result import Evaluation, Result
from tunewise.runs.resume import (
    Saver,
    begin_or_resume,
    identity_of,
    last_checkpoint_hint,
    read_steps,
)
from tunewise.runs.tracking import Tracking, check_trackers, open_trackers
from tunewise.training.best import BestState
from tunewise.training.loop import Step, train, updates_per_epoch
from tunewise.training.optimizers import build_optimizer
from tunewise.training.parallel import (
    from_main,
    in_any_process,
    is_main,
    join_others,
    main_first,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """A finished run: its result, updates and predictions, and its folder."""

    folder: Path
    result: Result
    steps: list[Step]
    predictions: list[Prediction]
    """The predictions of the test split; empty if it was not read."""


def run(
    config: RunConfig,
    data: Path | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    shared: Shared | None = None,
    read_test: bool = True,
    keep_weights: bool = True,
    resume: bool = False,
    repeats: Path | None = None,
) -> RunRecord:
    """Train, evaluate and keep one set-up; return its record.

    The validation split chooses the best state; the test split is read once, at the end, with it.

    Args:
        data: the folder in which a named task's rows are searched; for a run that is resumed,
            without it, the one that it was started with.
        out: the folder to write everything to; must be new or empty. Without it, runs/NAME.
        progress: where to show how far it is.
        shared: what other runs of this process have read.
        read_test: whether the test split is read; not for a candidate that is only compared on
            validation data.
        keep_weights: whether the trained weights are in the folder when the run has finished.
        resume: continue from the folder's last checkpoint, to the same result as without a stop;
            with more epochs, see `lengthen`.
        repeats: the folder of a run that this one repeats: it is said whether the rows are as then.

    Raises:
        TunewiseError: if the configuration, the model or the data cannot be used, or are not those
            of the run to be resumed.
        KeyboardInterrupt: if the run was asked to stop, after a checkpoint was written.
    """
    check_metrics(config)
    check_trackers(config)
    join_others()
    if out is not None and not resume:  # before anything is fetched
        from_main(refuse_used, out, "--resume continues a run")
    device, shared = choose_device(), shared or Shared()
    reset_peak_bytes(device)
    if resume and data is None:
        data = from_main(kept_data, out or numbered(run_name(config), resume))
    progress = progress or Progress()
    with progress.working("reading rows and model"):
        prepared = prepare(config, data, device, shared, SPLITS if read_test else SPLITS[:2])
        estimate = from_main(estimate_run, prepared, shared)
        warn_of_memory(estimate, device)
        model = _make_model(prepared)
    folder = from_main(run_folder, out, prepared.name, resume)
    with locked(folder) if is_main() else nullcontext(), progress.in_folder(folder):
        from_main(begin_or_resume, prepared, data, folder)
        result = from_main(read_result, folder)
        if result is None:
            progress.begins(opening_lines(prepared, model, data, config.from_ or repeats))
            frozen = Stopwatch()
            with frozen, progress.working("computing frozen blocks"):
                prepared = main_first(add_frozen_states, prepared, model)
            with open_trackers(prepared.config, folder) as tracking:
                try:
                    trained = _train(prepared, model, folder, progress, tracking)
                    tested = _test(prepared, model, trained, progress) if read_test else None
                except TrainingError as error:
                    raise TrainingError(f"{error}{last_checkpoint_hint(folder)}") from error
                result = from_main(
                    finish,
                    prepared,
                    model,
                    folder,
                    estimate=estimate,
                    steps=trained.steps,
                    best=trained.best,
                    tested=tested,
                    frozen_seconds=frozen.seconds,
                    evaluation_seconds=trained.evaluation.seconds,
                    version=tunewise.__version__,
                    keep_weights=keep_weights,
                )
                tracking.send_metrics("test", result.metrics.get("test", {}), len(trained.steps))
        predictions = read_predictions(folder / PREDICTIONS_FILE)
        return RunRecord(folder, result, read_steps(folder), predictions)


def _make_model(prepared: Prepared) -> LanguageModel:
    """Return the adapted model on its device, ready to be trained."""
    config = prepared.config
    torch.manual_seed(config.seed)  # dropout draws from the global source
    model = beginning_model(config, prepared.source, prepared.tokenizer)
    config.method.say_origin(config.model, config.task.label_names)
    model.set_precision(choose_dtype(config.train.precision, prepared.device))
    model.to(prepared.device)
    model.set_dropout(config.train.dropout)
    model.checkpointing = config.train.checkpointing
    return model


class Stopwatch:
    """The seconds spent inside its `with` blocks, summed."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of training; the best state is in the model."""

    steps: list[Step]
    best: BestState
    evaluation: Stopwatch


def _train(
    prepared: Prepared, model: LanguageModel, folder: Path, progress: Progress, tracking: Tracking
) -> TrainingOutcome:
    """Train, from the last checkpoint if there is one, and put the best state into the model."""
    config, settings = prepared.config, prepared.config.train
    sequences = settings.objective.prepare(
        model, prepared.encoded["train"].sequences, settings.tokens_per_pass
    )
    per_epoch = updates_per_epoch(len(settings.objective.units(sequences)), settings)
    num_updates, num_rows = settings.epochs * per_epoch, len(prepared.examples["validation"])
    best = BestState(METRICS[config.metric])
    optimizer = build_optimizer(model, settings.optimizer, settings.weight_decay)
    identity = from_main(identity_of, prepared, folder)
    saver = Saver(folder, model, optimizer, best, identity, settings)
    resumed = saver.restore_last()
    steps, evaluation = resumed.steps, Stopwatch(resumed.evaluation_seconds)
    for line in resumed.lines:
        tracking.send_line(line)
    if not num_updates:
        with evaluation:
            best.keep_if_better(model, validate_model(prepared, model, None), None)
    with progress.updates(num_updates), stop_requests() as requested:
        for step in train(model, sequences, settings, config.seed, optimizer, len(steps)):
            steps.append(step)
            progress.step(step)
            saver.add(step)
            tracking.send_line(step)
            every = settings.evaluate_every or per_epoch
            if step.number % every == 0 or step.number == num_updates:
                with evaluation, progress.evaluating("validation", num_rows):
                    metrics = validate_model(prepared, model, step)
                is_best = best.keep_if_better(model, metrics, step)
                progress.evaluated(step, metrics, is_best)
                line = Evaluation(number=step.number, epoch=step.epoch, validation=metrics)
                saver.add(line)
                tracking.send_line(line)
            stopping = settings.early_stopping
            if stopping and best.evaluations_since >= stopping.patience:
                logger.info("stopped early: no better %s since update %d", config.metric, best.step)
                break
            stop = in_any_process(bool(requested))
            # At the end, so that a stop in the test evaluation does not cost the training.
            ends = step.number == num_updates
            keeps = ends and (keeps_checkpoint(config, model) or saver.has_much_to_lose)
            from_main(saver.write_if_due, step.number, evaluation.seconds, now=stop or keeps)
            if stop:
                raise KeyboardInterrupt
    best.restore(model)
    return TrainingOutcome(steps, best, evaluation)


def _test(
    prepared: Prepared, model: LanguageModel, trained: TrainingOutcome, progress: Progress
) -> list[Prediction]:
    """Return one prediction per example of the test split, by the best state."""
    with trained.evaluation, progress.evaluating("test", len(prepared.examples["test"])):
        return predict_test(prepared, model, trained.best)
