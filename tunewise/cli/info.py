"""The commands that train nothing: `params`, `estimate` and `list`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from tunewise.cli.options import (
    ConfigWords,
    Data,
    Json,
    MethodKind,
    Model,
    Target,
    TaskName,
    Texts,
    configure,
    split_words,
    used_data,
)
from tunewise.errors import ConfigError, nearest
from tunewise.json_text import to_json


def params(
    words: ConfigWords = None,
    target: Target = None,
    text: Texts = None,
    model: Model = None,
    task: TaskName = None,
    method: MethodKind = None,
    as_json: Json = False,
) -> None:
    """Count all parameters and the trainable ones, without reading weights.

    Without a task the model is a language model; a classification task gives it a label layer.
    """
    given = split_words(words)
    from tunewise.runs.parameters import count_parameters

    config, _ = configure(given, {"model": model, "task": task, "method": method}, target, text)
    has_fields = any(word.startswith("task") for word in given.fields)
    names_task = task or given.file or given.table or has_fields
    counts = count_parameters(config, config.task if names_task else None)
    if as_json:
        print(counts.model_dump_json())
    else:
        print(f"total      {counts.total:>15,}")
        print(f"trainable  {counts.trainable:>15,}  ({counts.percent:.4g} %)")


def estimate(
    context: typer.Context,
    words: ConfigWords = None,
    target: Target = None,
    text: Texts = None,
    model: Model = None,
    task: TaskName = None,
    method: MethodKind = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Estimate a run's memory and time, here and on some GPUs, without reading weights."""
    given = split_words(words)
    from tunewise.cli import show
    from tunewise.estimate.survey import survey

    config, _ = configure(given, {"model": model, "task": task, "method": method}, target, text)
    data = used_data(context, data, [config.task])
    surveyed = survey(config, data)
    if as_json:
        print(to_json({**asdict(surveyed), "advice": surveyed.advice}))
    else:
        show.print_survey(surveyed)


def list_known(
    what: Annotated[str, typer.Argument(metavar="models|tasks|methods|metrics|objectives|runs")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List what is known, or the runs in the folder runs; for tasks, also the number of rows."""
    from tunewise.cli import listing, run_list, show

    lists: dict[str, Callable[[], Sequence[listing.Listed]]] = {
        "models": listing.models,
        "tasks": partial(listing.tasks, data),
        "methods": listing.methods,
        "metrics": listing.metrics,
        "objectives": listing.objectives,
        "runs": run_list.runs,
    }
    if what not in lists:
        raise ConfigError(f"list {what!r}: {nearest(what, lists)}")
    listed = lists[what]()
    if as_json:
        print(to_json([listing.as_json(entry) for entry in listed], indent=2))
    else:
        show.print_table([listing.with_headings(entry) for entry in listed])
