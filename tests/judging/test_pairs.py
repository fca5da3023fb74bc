"""Laws of comparing two runs: the order in which responses are shown does not decide."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunewise.errors import ConfigError
from tunewise.judging import JudgeConfig, JudgeError, judge_pair

ConfigOf = Callable[..., JudgeConfig]
RunOf = Callable[..., Path]


def shown(prompt: str) -> tuple[str, str]:
    """Return the responses that a prompt shows as A and as B."""
    found = [re.search(rf"<response_{x}-\w+>\n(.*?)\n</response", prompt) for x in "ab"]
    return found[0][1], found[1][1]


def longer(prompt: str) -> str:
    first, second = shown(prompt)
    return "A" if len(first) > len(second) else "B"


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_judge_that_means_it_is_believed(server: Any, config_of: ConfigOf, run_of: RunOf) -> None:
    server.behaviour = longer
    first = run_of("long one", "long two", "s", "long four", name="first")
    second = run_of("a", "b", "longer", "d", name="second")
    found = judge_pair(first, second, config_of(calls=3))
    assert (found.num_wins, found.num_ties, found.num_losses) == (3, 0, 1)
    assert found.win_rate == 0.75
    assert found.interval[0] < 0.75 < found.interval[1]
    assert (found.num_position_a, found.num_position_b) == (0, 0)
    assert found.calls_made == 4 * 2 * 3
    swapped = judge_pair(second, first, config_of(calls=3))
    assert swapped.win_rate == 0.25
    assert (swapped.calls_made, swapped.calls_cached) == (0, 24)


@pytest.mark.parametrize("position", ["A", "B"])
def test_a_judge_that_looks_at_the_position_shows_no_winner(
    server: Any, config_of: ConfigOf, run_of: RunOf, position: str
) -> None:
    server.behaviour = lambda prompt: position
    first, second = run_of("a", "b", name="first"), run_of("c", "d", name="second")
    found = judge_pair(first, second, config_of(calls=2))
    assert (found.win_rate, found.interval, found.num_ties) == (0.5, (0.5, 0.5), 2)
    bias = (4, 0) if position == "A" else (0, 4)
    assert (found.num_position_a, found.num_position_b) == bias


def test_the_same_response_twice_is_a_tie_that_nobody_is_asked_about(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    server.behaviour = longer
    first, second = run_of("same", "longer", name="first"), run_of("same", "b", name="second")
    found = judge_pair(first, second, config_of())
    assert (found.win_rate, found.num_ties, found.calls_made) == (0.75, 1, 2)
    assert judge_pair(first, first, config_of()).win_rate == 0.5
    assert len(server.requests) == 2


def test_an_example_without_a_verdict_is_counted_and_left_out(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    server.behaviour = lambda p: "neither" if shown(p) == ("c", "odd") else longer(p)
    first, second = run_of("long", "odd", name="first"), run_of("b", "c", name="second")
    found = judge_pair(first, second, config_of())
    assert (found.num_examples, found.num_unjudged, found.win_rate) == (2, 1, 1.0)
    assert found.num_invalid_replies == 3


def test_only_what_both_runs_answered_is_compared(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    server.behaviour = longer
    first, second = run_of("long", "b", "c", name="first"), run_of("a", name="second")
    found = judge_pair(first, second, config_of())
    assert (found.num_examples, found.num_unmatched) == (1, 2)


def test_different_questions_under_the_same_name_are_refused(
    config_of: ConfigOf, run_of: RunOf
) -> None:
    first, second = run_of("a", name="first"), run_of("b", name="second", expected="else")
    with pytest.raises(JudgeError, match="'test:0' is not the same in both"):
        judge_pair(first, second, config_of())


def test_runs_without_a_common_example_are_refused(config_of: ConfigOf, run_of: RunOf) -> None:
    first, second = run_of("a", name="first"), run_of("b", name="second", id="other:0")
    with pytest.raises(JudgeError, match="no example in common"):
        judge_pair(first, second, config_of())


def test_nothing_is_written_but_the_file_that_is_asked_for(
    server: Any, config_of: ConfigOf, run_of: RunOf, tmp_path: Path
) -> None:
    server.behaviour = longer
    first, second = run_of("long", "ü", name="first"), run_of("b", "ü", name="second")
    before = files_of(first) | files_of(second)
    out = tmp_path / "pair.json"
    found = judge_pair(first, second, config_of(), out)
    assert files_of(first) | files_of(second) == before
    written = json.loads(out.read_text("utf-8"))
    assert written["win_rate"] == found.win_rate == 0.75
    assert written["judge"]["model"] == "judge"
    assert written["examples"] == [
        {"id": "test:0", "share": 1.0, "verdicts": [["A", "B"]]},
        {"id": "test:1", "share": 0.5, "verdicts": []},
    ]


def test_a_file_that_is_there_is_not_overwritten_and_nothing_is_asked(
    server: Any, config_of: ConfigOf, run_of: RunOf, tmp_path: Path
) -> None:
    out = tmp_path / "pair.json"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        judge_pair(run_of("a", name="first"), run_of("b", name="second"), config_of(), out)
    assert out.read_text() == "mine"
    assert server.requests == []
