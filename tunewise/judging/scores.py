"""A judge scores each response of a run against the reference, 0 to 100."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.files import naming_the_file, write_whole
from tunewise.judging.answers import Progress, ask
from tunewise.judging.config import JudgeConfig
from tunewise.judging.endpoint import JudgeError
from tunewise.judging.prompts import SCORE, fill
from tunewise.metrics import Prediction
from tunewise.metrics.metric import bootstrap, mean, with_count
from tunewise.runs.folder import PREDICTIONS_FILE, RESULT_FILE, read_predictions

JUDGEMENTS = "judgements.jsonl"
SEED = 0
"""Of the intervals' resamples."""


@dataclass(frozen=True)
class Judgement:
    """What a judge makes of a run."""

    model: str
    mean: float
    """Over the responses that were judged, each by the mean of its calls."""
    interval: tuple[float, float]
    """95 % bootstrap interval of the mean, over responses."""
    spread: float | None
    """The standard deviation between calls on one response, on average; None with one call."""
    num_responses: int
    num_unjudged: int
    """Responses without a score from every call. They are not in the mean."""
    num_invalid_replies: int
    """Replies that were no integer from 0 to 100, of this and earlier runs."""
    calls_made: int
    calls_cached: int


def judge_run(
    folder: Path, config: JudgeConfig, progress: Progress = lambda done, total: None
) -> Judgement:
    """Return what a judge makes of a finished run's responses, and keep it in the run's folder.

    judgements.jsonl gets a line per response; result.json gets the mean and its interval as the
    test metric `judge`. What another judge left in judgements.jsonl is kept under another name.

    Args:
        progress: called with the number of answers that are there, and that there will be.

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
    answers = ask(prompts, SCORE, config, progress)
    scores = [_scores(answers.values(prompt, config.calls)) for prompt in prompts]
    means = [_mean(given) for given in scores]
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
        num_invalid_replies=answers.num_invalid,
        calls_made=answers.calls_made,
        calls_cached=answers.calls_cached,
    )
    _write_metric(folder, judgement)
    return judgement


def read_responses(folder: Path) -> list[Prediction]:
    """Return the predictions of a finished run that answered with texts.

    Raises:
        JudgeError: if it is none.
    """
    _read_result(folder)
    path = folder / PREDICTIONS_FILE
    predictions = read_predictions(path)
    if not any(prediction.prompt for prediction in predictions):
        raise JudgeError(f"{path}: holds no texts to judge: this run's task has no prompts")
    return predictions


def _read_result(folder: Path) -> Any:
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
    raise JudgeError(f"{path}: is not the result of a run that was tested")


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file, there whole or not at all."""
    write_whole(path, json.dumps(values, indent=2) + "\n")


def _scores(replies: Sequence[str | None]) -> list[int | None]:
    return [None if reply is None else int(reply) for reply in replies]


def _mean(scores: Sequence[int | None]) -> float | None:
    given = [score for score in scores if score is not None]
    return statistics.fmean(given) if len(given) == len(scores) else None


def _spread(scores: Sequence[Sequence[int | None]]) -> float | None:
    """Return the mean over judged responses of the standard deviation (n - 1) between calls."""
    judged = [[s for s in given if s is not None] for given in scores if None not in given]
    if len(judged[0]) < 2:
        return None
    return statistics.fmean(statistics.stdev(given) for given in judged)


def _write_judgements(
    folder: Path,
    config: JudgeConfig,
    predictions: Sequence[Prediction],
    scores: Sequence[Sequence[int | None]],
    means: Sequence[float | None],
) -> None:
    """Write a line per response; each names its judge, so no file can be taken for another's."""
    judge = config.identity(config.template)
    rows = (
        {"example_id": p.example_id, "scores": given, "mean": value, "judge": judge}
        for p, given, value in zip(predictions, scores, means, strict=True)
    )
    path = folder / JUDGEMENTS
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    if path.exists() and _judge_of(path) != judge:
        with naming_the_file(path):
            path.rename(_free_name(path))
    write_whole(path, "".join(f"{line}\n" for line in lines))


def _judge_of(path: Path) -> Any:
    """Return which judge a file of judgements is of; None if it does not say."""
    with path.open(encoding="utf-8") as file:
        try:
            return json.loads(file.readline())["judge"]
        except (ValueError, KeyError, TypeError):
            return None


def _free_name(path: Path) -> Path:
    """Return the first of judgements-1.jsonl, judgements-2.jsonl, ... that is not there."""
    number = 1
    while (free := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return free


def _write_metric(folder: Path, judgement: Judgement) -> None:
    # As plain JSON, so that whatever else a version of tunewise wrote there stays as it is.
    result = _read_result(folder)
    result["metrics"]["test"]["judge"] = judgement.mean
    result["intervals"]["test"]["judge"] = judgement.interval
    write_json(folder / RESULT_FILE, result)
