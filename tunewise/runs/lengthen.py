"""Lengthening: a run is given other epochs than it was started with, and goes on.

The rates of the updates that were made must be those of the new length as well: then the run ends
as if it had been asked for that length at once, bit for bit. A constant rate has this property;
`linear` and `cosine` end at the last update, so each length has its own rates. The user may say
another schedule for the updates that are left.
"""

import logging
from pathlib import Path
from shutil import rmtree

from tunewise.config import RunConfig, make_config, write_yaml
from tunewise.errors import ConfigError
from tunewise.models import LanguageModel
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    METRICS_FILE,
    RESULT_FILE,
    read_lines,
    read_result,
)
from tunewise.training import checkpoint
from tunewise.training.loop import Step
from tunewise.training.schedule import learning_rate, num_warmup_updates

logger = logging.getLogger(__name__)

LENGTH = ("epochs", "schedule", "warmup", "min_learning_rate")
"""The settings of training that may change with the length."""
MOST_KEPT = 2**28
"""Largest checkpoint that a finished run keeps, in bytes."""


def with_length_of(there: RunConfig, here: RunConfig) -> RunConfig:
    """Return the configuration `here`, with the length of `there`."""
    as_there = here.train.model_copy(update={name: getattr(there.train, name) for name in LENGTH})
    return here.model_copy(update={"train": as_there})


def differs_in_length(there: RunConfig, here: RunConfig) -> bool:
    """Return whether two configurations have other epochs, and the same of all else."""
    return with_length_of(there, here) == there and here.train.epochs != there.train.epochs


def lengthen(folder: Path, here: RunConfig, per_epoch: int) -> None:
    """Give the run in a folder another number of epochs, to go on from its last checkpoint.

    Its configuration, and its result if it has finished, are kept beside the new ones.

    Args:
        here: the new configuration.
        per_epoch: number of updates of an epoch.

    Raises:
        ConfigError: if it cannot go on; the message says why, and what can be done.
    """
    there = make_config(folder / CONFIG_FILE)
    if problem := _problem(folder, there, here, per_epoch):
        raise ConfigError(
            f"--resume: {folder} was started with train.epochs {there.train.epochs}, and this has "
            f"{here.train.epochs}: {problem}"
        )
    former = f"of_{there.train.epochs}_epochs"
    # A folder without a result is an unfinished run at any moment of what follows.
    if (folder / RESULT_FILE).is_file():
        (folder / RESULT_FILE).rename(folder / f"result_{former}.json")
    write_yaml(there, folder / f"config_{former}.yaml")
    write_yaml(here, folder / CONFIG_FILE)


def _problem(folder: Path, there: RunConfig, here: RunConfig, per_epoch: int) -> str:
    """Return why a run cannot have another length; "" if it can."""
    totals = [config.train.epochs * per_epoch for config in (there, here)]
    last = checkpoint.read_last(folder / CHECKPOINT_FOLDER)
    another = f"begin a new run with another --out, or from its weights with --from {folder}"
    if not totals[0]:
        return ""  # nothing was to be made
    if read_result(folder) is not None:
        num_made = sum(isinstance(line, Step) for line in read_lines(folder / METRICS_FILE))
        if num_made < totals[0]:
            return f"it stopped early, after update {num_made}, and would stop there again"
        if last is None:
            return (
                "it has finished, and its checkpoints were deleted then (one is kept with "
                "train.schedule=constant, if it is not larger than "
                f"{MOST_KEPT >> 20} MiB); {another}"
            )
    if last is None:
        return ""  # nothing was made yet, or it is made again
    if last.number >= totals[1]:
        return f"it has made {last.number} updates, and {totals[1]} would be all; {another}"
    rates = [
        [learning_rate(number, total, config.train) for number in range(last.number)]
        for total, config in zip(totals, (there, here), strict=True)
    ]
    every = there.train.evaluate_every
    if rates[0] == rates[1]:
        if last.number == totals[0] and every and last.number % every:
            logger.warning(
                "%s: its last update, %d, was evaluated, as it would not be in a run of this "
                "length from its start",
                folder,
                last.number,
            )
        return ""
    if there.train.schedule != here.train.schedule:
        logger.warning(
            "%s: the rates of updates 1 to %d were those of train.schedule=%s over %d updates; "
            "from here on train.schedule=%s over %d: a run with these settings from its start "
            "would be another",
            folder,
            last.number,
            there.train.schedule,
            totals[0],
            here.train.schedule,
            totals[1],
        )
        return ""
    if there.train.schedule == "constant":
        return (
            f"its rate rose during {num_warmup_updates(totals[0], there.train)} updates, and would "
            f"during {num_warmup_updates(totals[1], here.train)} of this length, so that the "
            f"updates it has made would be others; {_warmup_hint(totals, there)}"
        )
    return (
        f"with train.schedule={there.train.schedule} the rate falls until the last update, so that "
        f"the {last.number} updates it has made are not those of this length; give the schedule "
        f"of the updates that are left, such as train.schedule=constant, or {another}"
    )


def _warmup_hint(totals: list[int], there: RunConfig) -> str:
    """Return the `train.warmup` with which the rates stay as they were."""
    warmup = num_warmup_updates(totals[0], there.train) / totals[1]
    return f"add train.warmup={warmup:.6g}, with which they stay the same"


def keeps_checkpoint(config: RunConfig, model: LanguageModel) -> bool:
    """Return whether a run keeps its last checkpoint when it finishes, to be lengthened."""
    _, num_trainable = model.count_parameters()
    num_bytes = 4 * 4 * num_trainable  # weights, best weights and two moments, in fp32
    return config.train.schedule == "constant" and num_bytes <= MOST_KEPT


def clear_checkpoints(config: RunConfig, model: LanguageModel, folder: Path) -> None:
    """Delete the checkpoints of a finished run, save the last if it is to be kept."""
    path = folder / CHECKPOINT_FOLDER
    if not keeps_checkpoint(config, model):
        rmtree(path, ignore_errors=True)
        return
    for old in sorted(path.glob("*-*.safetensors"))[:-1]:
        old.unlink()
