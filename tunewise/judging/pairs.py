"""Comparison of two runs by a judge: it reads their responses to each example in both orders."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from tunewise.errors import ConfigError
from tunewise.judging.config import JudgeConfig
from tunewise.judging.endpoint import JudgeError
from tunewise.judging.prompts import VERDICT, fill
from tunewise.judging.replies import OnProgress, ask
from tunewise.judging.scores import SEED, read_responses, write_json
from tunewise.metrics import Prediction
from tunewise.metrics.metric import bootstrap, mean, with_count


@dataclass(frozen=True)
class PairJudgement:
    """The share of examples for which a judge prefers one of two runs, with its counts."""

    model: str
    win_rate: float
    """Share of examples that the first run wins; a tie counts half."""
    interval: tuple[float, float]
    """95 % bootstrap interval over examples; if it holds 0.5, the difference is not significant."""
    num_examples: int
    """Number of examples that both runs answered."""
    num_wins: int
    """Number of examples of which the first run won more than half."""
    num_ties: int
    """Number of examples of which each won half: orders disagree, or the responses are equal."""
    num_losses: int
    """Number of examples of which the first run won less than half."""
    num_unjudged: int
    """Number of examples without a verdict from every call; they are not in the win rate."""
    num_unmatched: int
    """Number of examples that only one of the runs answered."""
    num_position_a: int
    """Number of call pairs that preferred the first place in both orders."""
    num_position_b: int
    """Number of call pairs that preferred the second place in both orders."""
    num_invalid_replies: int
    """Number of replies that were neither A nor B, in this and earlier runs."""
    calls_made: int
    calls_cached: int


def judge_pair(
    first: Path,
    second: Path,
    config: JudgeConfig,
    out: Path | None = None,
    progress: OnProgress = lambda done, total: None,
) -> PairJudgement:
    """Return how often a judge prefers the first run's responses to the second's.

    Judges favour a position (Zheng et al., https://arxiv.org/abs/2306.05685), so each call is made
    twice, with the responses swapped: only a verdict that survives the swap is a win. Two equal
    responses are a tie, without a call.

    Args:
        out: a new JSON file for the result, with every example's verdicts.
        progress: takes the number of calls that are done, and the number of all calls.

    Raises:
        JudgeError: if the runs cannot be compared, or the judge cannot be asked.
        ConfigError: if `out` exists.
    """
    if out is not None and out.exists():
        raise ConfigError(f"{out}: already exists, and nothing is overwritten")
    pairs, num_unmatched = _match(first, second)
    prompts = {a.id: _prompts(config, a, b) for a, b in pairs}
    replies = ask([p for both in prompts.values() for p in both], VERDICT, config, progress)
    verdicts = {
        example_id: list(zip(*(replies.values(p, config.calls) for p in both), strict=True))
        for example_id, both in prompts.items()
    }
    shares = {example_id: _share(calls) for example_id, calls in verdicts.items()}
    judged = [share for share in shares.values() if share is not None]
    if not judged:
        raise JudgeError(f"no pair has a verdict from each of {2 * config.calls} calls")
    counted = with_count(judged)
    all_calls = [call for calls in verdicts.values() for call in calls]
    judgement = PairJudgement(
        model=config.model,
        win_rate=mean(counted.sum(axis=0)),
        interval=bootstrap(counted, mean, SEED),
        num_examples=len(pairs),
        num_wins=sum(share > 0.5 for share in judged),
        num_ties=sum(share == 0.5 for share in judged),
        num_losses=sum(share < 0.5 for share in judged),
        num_unjudged=len(pairs) - len(judged),
        num_unmatched=num_unmatched,
        num_position_a=all_calls.count(("A", "A")),
        num_position_b=all_calls.count(("B", "B")),
        num_invalid_replies=replies.num_invalid,
        calls_made=replies.calls_made,
        calls_cached=replies.calls_cached,
    )
    if out is not None:
        examples = [
            {"id": name, "share": shares[name], "verdicts": verdicts[name]} for name in prompts
        ]
        runs = {"first": str(first), "second": str(second)}
        judge = config.identity(config.pair_template)
        write_json(out, {**runs, "judge": judge, **asdict(judgement), "examples": examples})
    return judgement


class _Matched(NamedTuple):
    """The responses of two runs to the same examples."""

    pairs: list[tuple[Prediction, Prediction]]
    num_unmatched: int
    """Number of examples that only one of the runs answered."""


def _match(first: Path, second: Path) -> _Matched:
    """Return the responses to the examples that both runs answered.

    Raises:
        JudgeError: if there are none, or an example is not the same in both runs.
    """
    of_first, of_second = ({p.id: p for p in read_responses(run)} for run in (first, second))
    pairs = [(a, of_second[name]) for name, a in of_first.items() if name in of_second]
    if not pairs:
        raise JudgeError(f"{first} and {second} have no example in common")
    for a, b in pairs:
        if (a.prompt, a.expected) != (b.prompt, b.expected):
            raise JudgeError(
                f"{first} and {second}: example {a.id!r} is not the same in both; runs "
                f"are compared on the same prompts and references"
            )
    return _Matched(pairs, len(of_first) + len(of_second) - 2 * len(pairs))


def _prompts(config: JudgeConfig, first: Prediction, second: Prediction) -> list[str]:
    """Return the two prompts of a pair, one per order; none if the responses are equal."""
    if first.predicted == second.predicted:
        return []
    orders = ((first.predicted, second.predicted), (second.predicted, first.predicted))
    shown = {"input": first.prompt, "reference": first.expected}
    return [
        fill(config.pair_template, {**shown, "response_a": a, "response_b": b}) for a, b in orders
    ]


def _share(verdicts: Sequence[tuple[str | None, ...]]) -> float | None:
    """Return the share of an example that the first run wins; None if a verdict is missing.

    Args:
        verdicts: one pair per call, with the first run as A and with the first run as B.
    """
    if any(None in call for call in verdicts):
        return None
    wins = [((a == "A") + (b == "B")) / 2 for a, b in verdicts]
    return statistics.fmean(wins) if wins else 0.5
