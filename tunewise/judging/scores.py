"""Scores of a run by a judge: each response against its reference, from 0 to 100."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.files import naming_the_file, write_whole
from tunewise.json_text import to_json
from tunewise.judging.config import JudgeConfig
from tunewise.judging.endpoint import JudgeError
from tunewise.judging.prompts import SCORE, fill
from tunewise.judging.replies import OnProgress, ask
from tunewise.metrics import Prediction
from tunewise.metrics.metric import bootstrap, mean, with_count
from tunewise.runs.folder import PREDICTIONS_FILE, RESULT_FILE, read_predictions

JUDGEMENTS_FILE = "judgements.jsonl"
SEED = 0
"""Seed of the intervals' resamples."""


@dataclass(frozen=True)
class Judgement:
    """A summary of a judge's scores of a run's responses."""

    model: str
    mean: float
    """Mean over the judged responses, of each the mean of its calls."""
    interval: tuple[float, float]
    """95 % bootstrap interval of the mean, over responses."""
    spread: float | None
    """Mean standard deviation between the calls on one response; None with one call."""
    num_responses: int
    num_unjudged: int
    """Number of responses without a score from every call; they are not in the mean."""
    num_invalid_replies: int
    """Number of replies other than an integer from 0 to 100, in this and earlier runs."""
    calls_made: int
    calls_cached: int


def judge_run(
    folder: Path, config: JudgeConfig, progress: OnProgress = lambda done, total: None
) -> Judgement:
    """Have a judge score a finished run's responses, write the scores to its folder, return them.

    judgements.jsonl gets a line per response; result.json gets the mean and its interval as the
    test metric `judge`. A judgements.jsonl of another judge is renamed, not overwritten.

    Args:
        progress: takes the number of calls that are done, and the number of all calls.

    Raises:
        JudgeError: if the folder holds nothing to judge, or the judge cannot be asked.
    """
    predictions = read_responses(folder)
    prompts = [
        fill(
            config.template,
            {"input": p.prompt, "reference": p.expected, "response": p.predicted},
        )
        for p in predictions
    ]
    replies = ask(prompts, SCORE, config, progress)
    scores = [_scores(replies.values(prompt, config.calls)) for prompt in prompts]
    means = [_mean(of_response) for of_response in scores]
    judged = [value for value in means if value is not None]
    if not judged:
        raise JudgeError(f"{folder}: no response has a score from each of {config.calls} calls")
    _write_judgements(folder, config, predictions, scores, means)
    counted = with_count(judged)
    judgement = Judgement(
        model=config.model,
        mean=mean(counted.sum(axis=0)),
        interval=bootstrap(counted, mean, SEED),
        spread=_spread(scores),
        num_responses=len(predictions),
        num_unjudged=len(predictions) - len(judged),
        num_invalid_replies=replies.num_invalid,
        calls_made=replies.calls_made,
        calls_cached=replies.calls_cached,
    )
    _write_metric(folder, judgement)
    return judgement


def read_responses(folder: Path) -> list[Prediction]:
    """Return the predictions of a finished run whose task has text answers.

    Raises:
        JudgeError: if the folder is not that of such a run.
    """
    _read_result(folder)
    path = folder / PREDICTIONS_FILE
    predictions = read_predictions(path)
    if not any(prediction.prompt for prediction in predictions):
        raise JudgeError(f"{path}: has no texts to judge: this run's task has no prompts")
    return predictions


def _read_result(folder: Path) -> Any:
    """Return the values of result.json.

    Raises:
        JudgeError: if they are not those of a run with test metrics.
    """
    path = folder / RESULT_FILE
    try:
        result = json.loads(path.read_text("utf-8"))
        if all(isinstance(result[part]["test"], dict) for part in ("metrics", "intervals")):
            return result
    except FileNotFoundError as error:
        raise JudgeError(
            f"{folder}: no {RESULT_FILE}, so it is not the folder of a finished run"
        ) from error
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass
    raise JudgeError(f"{path}: is not the result of a run with test metrics")


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(path, to_json(values, indent=2) + "\n")


def _scores(replies: Sequence[str | None]) -> list[int | None]:
    """Return the scores of the calls on one response; None for each that is missing."""
    return [None if reply is None else int(reply) for reply in replies]


def _mean(scores: Sequence[int | None]) -> float | None:
    """Return the mean of a response's scores; None if one is missing."""
    present = [score for score in scores if score is not None]
    return statistics.fmean(present) if len(present) == len(scores) else None


def _spread(scores: Sequence[Sequence[int | None]]) -> float | None:
    """Return the mean over judged responses of the standard deviation (n - 1) between calls."""
    judged = [[s for s in calls if s is not None] for calls in scores if None not in calls]
    if len(judged[0]) < 2:
        return None
    return statistics.fmean(statistics.stdev(calls) for calls in judged)


def _write_judgements(
    folder: Path,
    config: JudgeConfig,
    predictions: Sequence[Prediction],
    scores: Sequence[Sequence[int | None]],
    means: Sequence[float | None],
) -> None:
    """Write a line per response; each names the judge, so that judges are never mixed up."""
    judge = config.identity(config.template)
    rows = (
        {"id": p.id, "scores": calls, "mean": value, "judge": judge}
        for p, calls, value in zip(predictions, scores, means, strict=True)
    )
    path = folder / JUDGEMENTS_FILE
    lines = (to_json(row, ascii_only=False) for row in rows)
    if path.exists() and _judge_of(path) != judge:
        with naming_the_file(path):
            path.rename(_free_name(path))
    write_whole(path, "".join(f"{line}\n" for line in lines))


def _judge_of(path: Path) -> Any:
    """Return the judge that a file of judgements names; None if it names none."""
    with path.open(encoding="utf-8") as file:
        try:
            return json.loads(file.readline())["judge"]
        except (ValueError, KeyError, TypeError):
            return None


def _free_name(path: Path) -> Path:
    """Return the first of judgements-1.jsonl, judgements-2.jsonl, ... that does not exist."""
    number = 1
    while (free := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return free


def _write_metric(folder: Path, judgement: Judgement) -> None:
    """Write the mean and its interval to result.json."""
    # Plain JSON, so that fields which other versions of tunewise wrote stay as they are.
    result = _read_result(folder)
    result["metrics"]["test"]["judge"] = judgement.mean
    result["intervals"]["test"]["judge"] = judgement.interval
    write_json(folder / RESULT_FILE, result)
