"""Candidates chosen one after the other, by Optuna (https://arxiv.org/abs/1907.10902)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewise.errors import ConfigError
from tunewise.files import write_whole
from tunewise.metrics import METRICS
from tunewise.studies.study import Cell, Range, Search, Study, title_of
from tunewise.studies.trials import Planned, planned_run, search_file

Watch = Callable[[int, float], None]
"""Told the number of an update and the validation value there; raises to stop the run."""


def search(
    study: Study, cell: Cell, folder: Path, attempt: Callable[[Planned, Watch], float | None]
) -> None:
    """Try as many candidates for a cell as the study allows; go on where an earlier call stopped.

    Which candidate comes next depends on what came of those before and on the seed alone, so a
    search that is stopped and taken up again tries what it would have tried.

    Args:
        attempt: makes a run and returns its best validation value, or None if it failed.

    Raises:
        ConfigError: if Optuna is not installed.
    """
    optuna = _optuna()
    assert study.search is not None
    search, states = study.search, optuna.trial.TrialState
    metric = METRICS[cell.config.metric]
    trials = _trials(search, study.name, cell, folder, metric.higher_is_better)
    # A trial that was running when its process ended has no value to learn from.
    for stopped in trials.get_trials(states=[states.RUNNING]):
        trials.tell(stopped.number, state=states.FAIL)
    path = search_file(cell, folder)
    path.parent.mkdir(exist_ok=True)
    while len(_known(trials)) < search.trials:
        trials.sampler = _sampler(search, cell.config.seed + len(_known(trials)))
        trial = trials.ask()
        overrides = {name: _suggest(trial, name, some) for name, some in search.space.items()}
        config = study.config(cell.name, cell.overrides, overrides)
        planned = planned_run(folder, f"{cell.name}, {title_of(overrides)}", config, True)
        trial.set_user_attr("folder", planned.folder.name)
        trial.set_user_attr("overrides", overrides)

        def watch(step: int, value: float, trial: Any = trial) -> None:
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            value = attempt(planned, watch)
            state = states.FAIL if value is None else states.COMPLETE
        except optuna.TrialPruned:
            value, state = None, states.PRUNED
        trial.set_user_attr("known", True)
        trials.tell(trial, value, state)
        _write(trials, path)


def _known(trials: Any) -> list[Any]:
    """Return the trials that ended by themselves, whatever came of them."""
    return [trial for trial in trials.get_trials() if trial.user_attrs.get("known")]


def _trials(search: Search, name: str, cell: Cell, folder: Path, higher_is_better: bool) -> Any:
    """Return Optuna's record of a cell's trials."""
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = search.storage or f"sqlite:///{folder.absolute() / 'search.db'}"
    return optuna.create_study(
        study_name=f"{name}/{search_file(cell, folder).stem}",
        direction="maximize" if higher_is_better else "minimize",
        storage=url,
        pruner=_pruner(search),
        load_if_exists=True,
    )


def _sampler(search: Search, seed: int) -> Any:
    samplers = _optuna().samplers
    kinds = {"tpe": samplers.TPESampler, "random": samplers.RandomSampler}
    return kinds[search.sampler](seed=seed)


def _pruner(search: Search) -> Any:
    pruners = _optuna().pruners
    kinds = {
        "none": pruners.NopPruner,
        "median": pruners.MedianPruner,
        "halving": pruners.SuccessiveHalvingPruner,
    }
    return kinds[search.pruner]()


def _suggest(trial: Any, name: str, values: Range) -> Any:
    if values.choices is not None:
        return trial.suggest_categorical(name, values.choices)
    low, high = values.low, values.high
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=values.log)
    assert low is not None and high is not None
    return trial.suggest_float(name, low, high, log=values.log)


def _write(trials: Any, path: Path) -> None:
    """Write down what was tried, for reports to read without Optuna and its database."""
    tried = [
        {
            "overrides": trial.user_attrs["overrides"],
            "folder": trial.user_attrs["folder"],
            "status": trial.state.name.lower(),
        }
        for trial in _known(trials)
    ]
    write_whole(path, json.dumps(tried, indent=2) + "\n")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "search: needs Optuna; install it with: pip install 'tunewise[search]'"
        ) from error
    return optuna
