"""Search: candidates chosen one after the other by Optuna (https://arxiv.org/abs/1907.10902)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewise.errors import ConfigError
from tunewise.files import write_whole
from tunewise.json_text import to_json
from tunewise.metrics import METRICS
from tunewise.studies.study import Cell, Range, Search, Study
from tunewise.studies.trials import SearchEntry, Trial, new_candidate, search_file

Watch = Callable[[int, float], None]
"""Takes the number of an update and the validation value there; raises to stop the run."""


def search(
    study: Study, cell: Cell, folder: Path, attempt: Callable[[Trial, Watch], float | None]
) -> None:
    """Try as many candidates for a cell as the study allows, those of earlier calls included.

    The next candidate depends only on the results of those before and on the seed. So a search
    that is stopped and resumed tries the same candidates as one that is not.

    In Optuna's words `history` is a study, and each `suggestion` a trial of it.

    Args:
        folder: the study's folder.
        attempt: runs a candidate and returns its best validation value, or None if it failed.

    Raises:
        ConfigError: if Optuna is not installed.
    """
    optuna = _import_optuna()
    assert study.search is not None
    space, states = study.search.space, optuna.trial.TrialState
    history = _open_history(study, study.search, cell, folder)
    # A suggestion that was being tried when its process ended has no value to learn from.
    for stopped in history.get_trials(states=[states.RUNNING]):
        history.tell(stopped.number, state=states.FAIL)
    path = search_file(cell, folder)
    path.parent.mkdir(exist_ok=True)
    while (num_tried := len(_tried(history))) < study.search.trials:
        history.sampler = _sampler(study.search, cell.config.seed + num_tried)
        suggestion = history.ask()
        overrides = {field: _suggest(suggestion, field, space[field]) for field in space}
        candidate = new_candidate(study, cell, overrides, folder)
        suggestion.set_user_attr("folder", candidate.folder.name)
        suggestion.set_user_attr("overrides", overrides)

        def watch(step: int, value: float, suggestion: Any = suggestion) -> None:
            suggestion.report(value, step)
            if suggestion.should_prune():
                raise optuna.TrialPruned

        try:
            value = attempt(candidate, watch)
            state = states.FAIL if value is None else states.COMPLETE
        except optuna.TrialPruned:
            value, state = None, states.PRUNED
        suggestion.set_user_attr("known", True)
        history.tell(suggestion, value, state)
        _write_entries(history, path)


def _open_history(study: Study, search: Search, cell: Cell, folder: Path) -> Any:
    """Return Optuna's record of what was tried for a cell."""
    optuna = _import_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    higher_is_better = METRICS[cell.config.metric].higher_is_better
    return optuna.create_study(
        study_name=f"{study.name}/{search_file(cell, folder).stem}",
        direction="maximize" if higher_is_better else "minimize",
        storage=search.storage or f"sqlite:///{folder.absolute() / 'search.db'}",
        pruner=_pruner(search),
        load_if_exists=True,
    )


def _tried(history: Any) -> list[Any]:
    """Return the suggestions that were tried to the end, whatever the result."""
    return [tried for tried in history.get_trials() if tried.user_attrs.get("known")]


def _sampler(search: Search, seed: int) -> Any:
    samplers = _import_optuna().samplers
    kinds = {"tpe": samplers.TPESampler, "random": samplers.RandomSampler}
    return kinds[search.sampler](seed=seed)


def _pruner(search: Search) -> Any:
    pruners = _import_optuna().pruners
    kinds = {
        "none": pruners.NopPruner,
        "median": pruners.MedianPruner,
        "halving": pruners.SuccessiveHalvingPruner,
    }
    return kinds[search.pruner]()


def _suggest(suggestion: Any, field: str, values: Range) -> Any:
    """Return the value that Optuna suggests for a field."""
    if values.choices is not None:
        return suggestion.suggest_categorical(field, values.choices)
    low, high = values.low, values.high
    if isinstance(low, int) and isinstance(high, int):
        return suggestion.suggest_int(field, low, high, log=values.log)
    assert low is not None and high is not None
    return suggestion.suggest_float(field, low, high, log=values.log)


def _write_entries(history: Any, path: Path) -> None:
    """Write what was tried to a file, so that reports need neither Optuna nor its database."""
    entries = [
        SearchEntry(
            overrides=tried.user_attrs["overrides"],
            folder=tried.user_attrs["folder"],
            status=tried.state.name.lower(),
        )
        for tried in _tried(history)
    ]
    text = to_json([entry.model_dump() for entry in entries], indent=2)
    write_whole(path, text + "\n")


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "search: needs Optuna; install it with: pip install 'tunewise[search]'"
        ) from error
    return optuna
