"""Run commands of a copy of the package in one process; a program that `test_adding.py` starts.

It reads a JSON list of commands, and writes a JSON list of what each printed. A command is a list
of words, as a user would write them after `tunewise`. Four more are only here:

    stop FOLDER [KEY=VALUE]...    a run that is stopped where its process would be killed
    logits FOLDER ID...           the logits of a model, as JSON
    compare FOLDER                how two cells of a study differ
    store-in-int8                 from here on, models are loaded as docs/adding/weight.md says
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

import tunewise.estimate.work
import tunewise.runs.model
from tunewise.cli import main as cli
from tunewise.config import make_config
from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.models.folder import build_model, load_model
from tunewise.reports.words import format_difference, format_value
from tunewise.run import run
from tunewise.runs.progress import Progress
from tunewise.studies.compare import compare
from tunewise.training.loop import Step

STOP_AT = 2


class Stopped(Exception):
    """Raised where a process would be killed."""


class StopAt(Progress):
    """Stops a run at an update, after the checkpoint of the one before it."""

    def step(self, step: Step) -> None:
        if step.number == STOP_AT:
            raise Stopped


def stop(folder: str, *words: str) -> str:
    try:
        run(make_config(overrides=words), out=Path(folder), progress=StopAt())
    except Stopped:
        return "stopped"
    raise AssertionError("the run was not stopped")


@torch.no_grad()
def logits(folder: str, *ids: str) -> str:
    encoded = Encoded("", torch.tensor([int(word) for word in ids]).int().numpy(), 1)
    (batch,) = pack([encoded], tokens_per_pass=len(ids))
    model = load_model(Path(folder)).eval()
    return json.dumps(model.logits(model.hidden(batch)).tolist())


def compare_two(folder: str) -> str:
    comparison = compare(Path(folder))
    (pair,), metric, best = comparison.pairs, comparison.metric.name, comparison.best
    assert best is not None
    difference = format_difference(metric, pair.difference)
    return f"{metric}, {pair.test}: {difference}, {format_value(metric, best.metrics[metric].mean)}"


def store_in_int8() -> str:
    from tunewise.models import int8  # type: ignore[attr-defined]  # it is in the copy only

    def loaded(*arguments: Any) -> Any:
        model = load_model(*arguments)
        int8.store_in_int8(model)
        return model

    def built(*arguments: Any) -> Any:
        model = build_model(*arguments)
        int8.store_in_int8(model)
        return model

    tunewise.runs.model.load_model = loaded
    tunewise.estimate.work.build_model = built
    return ""


def printed(words: list[str]) -> str:
    result = CliRunner().invoke(cli.app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        if type(result.exception).__name__ != "ConfigError":
            raise result.exception
        return f"error: {result.exception}"
    return result.stdout


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = {"stop": stop, "logits": logits, "compare": compare_two, "store-in-int8": store_in_int8}
    commands = json.load(sys.stdin)
    outputs = [here[c[0]](*c[1:]) if c[0] in here else printed(c) for c in commands]
    print(json.dumps(outputs), file=sys.__stdout__)
