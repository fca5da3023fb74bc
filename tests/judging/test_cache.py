"""A reply of the judge is kept and not asked for again, whatever stops the judging."""

import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tunewise.judging import JudgeError, judge_run

from .conftest import ConfigOf, RunOf, files_of, rows_of


def test_a_repeated_run_costs_no_calls_and_says_the_same(
    server: Any, config_of: ConfigOf, run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = count()
    server.behaviour = lambda prompt: str(next(number))
    folder = run_of("a", "b", "c")
    config = config_of(calls=3)
    first = judge_run(folder, config)
    files = files_of(folder)
    # What is kept needs neither endpoint nor key, nor the library.
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setitem(sys.modules, "openai", None)
    moved = config.model_copy(update={"base_url": "http://elsewhere/v1"})
    second = judge_run(folder, moved)
    assert (first.calls_made, first.calls_cached) == (9, 0)
    assert (second.calls_made, second.calls_cached) == (0, 9)
    assert (second.mean, second.interval, second.spread) == (
        first.mean,
        first.interval,
        first.spread,
    )
    assert files_of(folder) == files
    assert len(server.requests) == 9


def test_more_calls_are_added_to_those_that_were_made(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    folder = run_of("a", "b")
    judge_run(folder, config_of(calls=2))
    more = judge_run(folder, config_of(calls=3))
    assert (more.calls_made, more.calls_cached) == (2, 4)


def test_the_same_response_to_the_same_question_is_asked_about_once(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    number = count()
    server.behaviour = lambda prompt: str(next(number))
    folder = run_of("a", "a", "a", prompt="Why?", expected="So.")
    judgement = judge_run(folder, config_of(calls=2))
    assert len(server.requests) == 2
    assert [row["scores"] for row in rows_of(folder)] == [rows_of(folder)[0]["scores"]] * 3
    assert judgement.num_responses == 3


def test_what_was_interrupted_goes_on_where_it_stopped(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    server.behaviour = lambda prompt: {"delay": 0.02}
    folder = run_of(*(f"response {n}" for n in range(12)))
    before = files_of(folder)
    config = config_of(concurrency=2, calls=2)

    def interrupt(done: int, total: int) -> None:
        assert total == 24
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_run(folder, config, interrupt)
    assert files_of(folder) == before
    made = len(server.requests)
    assert 7 <= made < 24
    judgement = judge_run(folder, config)
    assert judgement.calls_cached == made  # those that were under way are kept as well
    assert judgement.calls_made == 24 - made
    assert len(server.requests) == 24


def test_an_interruption_does_not_wait_for_a_retry(
    server: Any, config_of: ConfigOf, run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"retry-after": "500"}
    server.behaviour = lambda p: (
        {"status": 429, "headers": headers, "body": {}} if "busy" in p else "50"
    )
    folder = run_of("busy", "fine", "good")

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        judge_run(folder, config_of(), interrupt)
    assert threading.active_count() <= before + 3  # the server's own


def test_what_fails_half_way_goes_on_where_it_stopped(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    number = count()
    server.behaviour = lambda prompt: {"drop": True} if next(number) >= 5 else "50"
    folder = run_of(*(f"response {n}" for n in range(10)))
    with pytest.raises(JudgeError, match="the same command continues from there"):
        judge_run(folder, config_of(max_retries=1, concurrency=1))
    server.behaviour = lambda prompt: "50"
    assert judge_run(folder, config_of()).calls_cached == 5


def test_a_broken_file_of_the_cache_is_asked_for_again(
    server: Any, config_of: ConfigOf, run_of: RunOf, tmp_path: Path
) -> None:
    folder = run_of("a", "b", "c", "d")
    judge_run(folder, config_of())
    contents = ["", "[]", '{"value": "900", "num_invalid": 0}', '{"value": 50}']
    kept = sorted((tmp_path / "cache" / "judge").rglob("*.json"))
    for path, content in zip(kept, contents, strict=True):
        path.write_text(content)
    assert judge_run(folder, config_of()).calls_made == 4


def test_a_cache_that_cannot_be_written_costs_calls_only(
    server: Any,
    config_of: ConfigOf,
    run_of: RunOf,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert judge_run(run_of("fine"), config_of()).mean == 50
    assert "not cached" in caplog.text
