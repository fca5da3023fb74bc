"""A judge compares the responses of two runs to the same examples, in both orders."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tunewise.errors import ConfigError
from tunewise.judging.answers import Progress, ask
from tunewise.judging.config import JudgeConfig
from tunewise.judging.endpoint import JudgeError
from tunewise.judging.prompts import VERDICT, fill
from tunewise.judging.scores import SEED, read_responses, write_json
from tunewise.metrics import Prediction
from tunewise.metrics.metric import bootstrap, mean, with_count

Verdicts = list[tuple[str | None, str | None]]
"""Of each call: A or B with the first run as A, and A or B with the first run as B."""


@dataclass(frozen=True)
class PairJudgement:
    """Which of two runs a judge prefers."""

    model: str
    win_rate: float
    """The share of examples that the first run wins; one that nobody wins counts half."""
    interval: tuple[float, float]
    """95 % bootstrap interval of the win rate, over examples. 0.5 in it: no difference shown."""
    num_examples: int
    """Examples that both runs answered."""
    num_wins: int
    """Examples of which the first run won more than half."""
    num_ties: int
    """Examples of which both won half: the orders disagree, or the responses are the same."""
    num_losses: int
    num_unjudged: int
    """Examples without a verdict from every call. They are not in the win rate."""
    num_unmatched: int
    """Examples that only one of the runs answered."""
    num_position_a: int
    """Pairs of calls that preferred what stood first, in both orders."""
    num_position_b: int
    """Pairs of calls that preferred what stood second, in both orders."""
    num_invalid_replies: int
    calls_made: int
    calls_cached: int


def judge_pair(
    first: Path,
    second: Path,
    config: JudgeConfig,
    out: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> PairJudgement:
    """Return how often a judge prefers the first run's responses to the second's.

    Judges favour a position (Zheng et al., https://arxiv.org/abs/2306.05685), so each call is made
    twice, with the responses swapped: only a verdict that survives the swap is a win. The same
    response twice is a tie that nobody is asked about.

    Args:
        out: a new JSON file for the result, with every example's verdicts.
        progress: called with the number of answers that are there, and that there will be.

    Raises:
        JudgeError: if the runs cannot be compared, or the judge cannot be asked.
        ConfigError: if `out` is there already.
    """
    if out is not None and out.exists():
        raise ConfigError(f"{out}: is there already, and nothing is overwritten")
    pairs, num_unmatched = _matched(first, second)
    asked = {one.example_id: _prompts(config, one, other) for one, other in pairs}
    prompts = [prompt for both in asked.values() for prompt in both]
    answers = ask(prompts, VERDICT, config, progress)
    verdicts = {
        example_id: list(zip(*(answers.values(p, config.calls) for p in both), strict=True))
        for example_id, both in asked.items()
    }
    shares = {example_id: _share(given) for example_id, given in verdicts.items()}
    judged = [share for share in shares.values() if share is not None]
    if not judged:
        raise JudgeError(f"no pair has a verdict from each of {2 * config.calls} calls")
    counted = with_count(judged)
    calls = [call for given in verdicts.values() for call in given]
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
        num_position_a=calls.count(("A", "A")),
        num_position_b=calls.count(("B", "B")),
        num_invalid_replies=answers.num_invalid,
        calls_made=answers.calls_made,
        calls_cached=answers.calls_cached,
    )
    if out is not None:
        examples = [
            {"example_id": name, "share": shares[name], "verdicts": verdicts[name]}
            for name in asked
        ]
        runs = {"first": str(first), "second": str(second)}
        judge = config.identity(config.pair_template)
        write_json(out, {**runs, "judge": judge, **asdict(judgement), "examples": examples})
    return judgement


def _matched(first: Path, second: Path) -> tuple[list[tuple[Prediction, Prediction]], int]:
    """Return the responses to examples that both runs answered, and the number of other examples.

    Raises:
        JudgeError: if there are none, or they are not the same examples.
    """
    ones, others = ({p.example_id: p for p in read_responses(run)} for run in (first, second))
    pairs = [(one, others[name]) for name, one in ones.items() if name in others]
    if not pairs:
        raise JudgeError(f"{first} and {second} have no example in common")
    for one, other in pairs:
        if (one.prompt, one.expected) != (other.prompt, other.expected):
            raise JudgeError(
                f"{first} and {second}: example {one.example_id!r} is not the same in both; runs "
                f"are compared on the same prompts and references"
            )
    return pairs, len(ones) + len(others) - 2 * len(pairs)


def _prompts(config: JudgeConfig, one: Prediction, other: Prediction) -> list[str]:
    """Return the two prompts of a pair, one per order; none where the responses are the same."""
    if one.predicted == other.predicted:
        return []
    orders = ((one.predicted, other.predicted), (other.predicted, one.predicted))
    shown = {"input": one.prompt, "reference": one.expected}
    return [
        fill(config.pair_template, {**shown, "response_a": a, "response_b": b}) for a, b in orders
    ]


def _share(verdicts: Sequence[tuple[str | None, ...]]) -> float | None:
    """Return the share of an example that the first run wins; None where a verdict is missing."""
    if any(None in call for call in verdicts):
        return None
    wins = [((a == "A") + (b == "B")) / 2 for a, b in verdicts]
    return statistics.fmean(wins) if wins else 0.5
