"""Laws of asking: what is temporary is tried again, what is not is told at once, no key leaks."""

import base64
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tunewise.errors import TunewiseError
from tunewise.judging import JudgeConfig, JudgeError, judge_run

pytestmark = pytest.mark.slow

KEY = "sk-very-secret-0123456789"
ConfigOf = Callable[..., JudgeConfig]
RunOf = Callable[..., Path]

PASSING = {
    "too many requests": {"status": 429, "body": {"error": {"message": "slow down"}}},
    "a server's mistake": {"status": 500, "body": "<html>oops</html>"},
    "overload": {"status": 503, "body": {"error": {"message": "overloaded"}}},
    "a time-out upstream": {"status": 408, "body": {}},
    "a dropped connection": {"drop": True},
    "a time-out": {"delay": 0.6},
    "an error that says it is none": {"body": {"error": {"message": "upstream"}}},
    "an empty completion": {"body": {"choices": []}},
    "half a completion": {"body": '{"choices": [{"mess', "headers": {"content-type": "text/json"}},
}
FATAL = {
    "a wrong key": (401, "invalid_api_key", "Incorrect API key provided"),
    "a key without rights": (403, None, "not allowed"),
    "an unknown model": (404, "model_not_found", "The model `judge` does not exist"),
    "no money": (402, None, "payment required"),
    "a quota that is used up": (429, "insufficient_quota", "You exceeded your current quota"),
}


def limit(what: str) -> float:
    return 0.4 if what == "a time-out" else 60


@pytest.mark.parametrize("what", PASSING)
def test_what_passes_is_tried_again(
    server: Any, config_of: ConfigOf, run_of: RunOf, what: str
) -> None:
    number = count()
    server.behaviour = lambda prompt: PASSING[what] if next(number) < 2 else "72"
    judgement = judge_run(run_of("fine"), config_of(timeout=limit(what)))
    assert judgement.mean == 72
    assert len(server.requests) == 3
    assert judgement.calls_made == 1


@pytest.mark.parametrize("what", PASSING)
def test_what_does_not_pass_is_told_in_one_line_after_the_last_retry(
    server: Any, config_of: ConfigOf, run_of: RunOf, what: str
) -> None:
    server.behaviour = lambda prompt: PASSING[what]
    folder = run_of("fine")
    with pytest.raises(JudgeError, match="in 3 tries") as caught:
        judge_run(folder, config_of(timeout=limit(what), max_retries=2))
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 3
    assert not (folder / "judgements.jsonl").exists()


@pytest.mark.parametrize("what", FATAL)
def test_what_no_retry_can_mend_is_told_at_once(
    server: Any, config_of: ConfigOf, run_of: RunOf, what: str
) -> None:
    status, code, message = FATAL[what]
    body = {"error": {"message": message, "code": code}}
    server.behaviour = lambda prompt: {"status": status, "body": body}
    with pytest.raises(TunewiseError, match=message) as caught:
        judge_run(run_of("fine"), config_of())
    assert str(status) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


def test_waits_grow_twofold(server: Any, config_of: ConfigOf, run_of: RunOf) -> None:
    server.behaviour = lambda prompt: {"status": 500, "body": {}}
    with pytest.raises(JudgeError):
        judge_run(run_of("fine"), config_of(max_retries=5))
    waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    for number, wait in enumerate(waits):
        assert wait >= 0.01 * 2**number


@pytest.mark.parametrize(
    "header",
    [lambda: "0.4", lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2), True)],
    ids=["seconds", "date"],
)
def test_a_server_is_not_asked_before_it_wants_to_be(
    server: Any, config_of: ConfigOf, run_of: RunOf, header: Callable[[], str]
) -> None:
    number = count()

    def busy_once(prompt: str) -> Any:
        if next(number):
            return "10"
        return {"status": 429, "headers": {"retry-after": header()}, "body": {}}

    server.behaviour = busy_once
    judge_run(run_of("fine"), config_of())
    first, second = server.times
    assert second - first >= 0.4


def test_a_server_that_wants_hours_is_not_waited_for(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    headers = {"retry-after": "7200"}
    server.behaviour = lambda prompt: {"status": 429, "headers": headers, "body": {}}
    with pytest.raises(JudgeError, match="come back in 7,200 s"):
        judge_run(run_of("fine"), config_of())
    assert len(server.requests) == 1


def test_a_wait_that_makes_no_sense_is_no_wait(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    waits = iter(["soon", "-5", "nan", ""])

    def busy(prompt: str) -> Any:
        wait = next(waits, None)
        return "10" if wait is None else {"status": 429, "headers": {"retry-after": wait}}

    server.behaviour = busy
    assert judge_run(run_of("fine"), config_of()).mean == 10


def test_no_more_requests_are_under_way_than_allowed(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    server.behaviour = lambda prompt: {"delay": 0.03}
    responses = [f"response {n}" for n in range(20)]
    judge_run(run_of(*responses), config_of(concurrency=4, calls=2))
    assert len(server.requests) == 40
    assert server.most_at_once == 4


def test_many_requests_are_under_way_at_once(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    together = threading.Barrier(16)  # none is answered until all have been asked
    server.behaviour = lambda prompt: {"together": together}
    responses = [f"response {n}" for n in range(16)]
    judge_run(run_of(*responses), config_of(concurrency=16))
    assert server.most_at_once == 16


def test_a_request_says_what_the_settings_say_and_nothing_else(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    judge_run(run_of("fine"), config_of(temperature=0.5))
    judge_run(run_of("fine", name="again"), config_of(temperature=None))
    first, second = server.requests
    assert first.keys() == {"model", "messages", "temperature"}
    assert (first["model"], first["temperature"]) == ("judge", 0.5)
    assert second.keys() == {"model", "messages"}
    assert server.keys == {f"Bearer {KEY}"}


# The key.


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_the_key_is_nowhere_even_if_the_server_echoes_it(
    server: Any,
    config_of: ConfigOf,
    run_of: RunOf,
    status: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    words = f"Bearer {KEY} is not welcome, " + "x" * 160 + KEY
    error = {"error": {"message": words, "code": KEY}}
    echo = {"status": status, "text": words, "headers": {"x-echo": KEY}}
    number = count()

    def echoes(prompt: str) -> Any:
        return "50" if next(number) == 0 else echo | ({} if status == 200 else {"body": error})

    server.behaviour = echoes
    config = config_of(max_retries=2, concurrency=1)
    told = []
    folder = run_of("one", "two")
    for _ in range(2):
        try:
            told.append(repr(judge_run(folder, config)))
        except JudgeError as caught:
            told.append("".join(traceback.format_exception(caught)))
            assert caught.__context__ is None
            told.append(repr(pickle.dumps(caught)))
    files = [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    said = [record.getMessage() for record in caplog.records]
    out, err = capfd.readouterr()
    for text in (*told, *files, *said, caplog.text, out, err, repr(config), str(config)):
        assert KEY not in text
        assert KEY[:12] not in text
    assert len(files) > 2
    assert f"Bearer {KEY}" in server.keys


def test_the_key_may_be_in_another_variable(
    server: Any, config_of: ConfigOf, run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "another\n")  # as `$(cat key)` or an env file may leave it
    judge_run(run_of("fine"), config_of(key_variable="MY_KEY"))
    assert server.keys == {"Bearer another"}


def test_a_server_of_ones_own_needs_no_key(
    server: Any, config_of: ConfigOf, run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of()
    monkeypatch.delenv("OPENAI_API_KEY")
    assert judge_run(run_of("fine"), config).mean == 50


def test_without_endpoint_and_key_nothing_is_sent(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(JudgeError, match="set OPENAI_API_KEY"):
        judge_run(run_of("fine"), JudgeConfig(model="judge"))


def test_a_key_that_cannot_be_one_is_not_shown(
    config_of: ConfigOf, run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of()
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    with pytest.raises(JudgeError, match="OPENAI_API_KEY: has characters") as caught:
        judge_run(run_of("fine"), config)
    assert "schl" not in str(caught.value)


def test_a_wrong_address_is_named(config_of: ConfigOf, run_of: RunOf) -> None:
    config = config_of(base_url="http://127.0.0.1:9/v1", max_retries=1)
    with pytest.raises(JudgeError, match=r"no connection to http://127\.0\.0\.1:9/v1.*in 2 tries"):
        judge_run(run_of("fine"), config)


def test_a_page_where_an_endpoint_should_be_is_told(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    server.behaviour = lambda prompt: {"body": "<html>Welcome</html>"}
    with pytest.raises(JudgeError, match=r"does not send a chat completion .*/v1"):
        judge_run(run_of("fine"), config_of(max_retries=1))


@pytest.mark.parametrize("status", [200, 500])
def test_the_time_limit_is_of_the_whole_call(
    server: Any, config_of: ConfigOf, run_of: RunOf, status: int
) -> None:
    server.behaviour = lambda prompt: {"pause": 0.05, "body": {"a": "b" * 100}, "status": status}
    started = time.monotonic()
    with pytest.raises(JudgeError, match=r"no reply within 0\.4 s, in 2 tries"):
        judge_run(run_of("fine"), config_of(timeout=0.4, max_retries=1))
    assert time.monotonic() - started < 3


def test_a_huge_reply_is_not_read_to_its_end(
    server: Any, config_of: ConfigOf, run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewise.judging.endpoint.MAX_BYTES", 1000)
    server.behaviour = lambda prompt: "50" * 1000
    with pytest.raises(JudgeError, match="a reply of over 1,000 bytes"):
        judge_run(run_of("fine"), config_of(max_retries=0))


ECHOES = {
    "whole": KEY,
    "in two words": f"{KEY[:12]} {KEY[12:]}",
    "in many": " ".join(KEY[n : n + 6] for n in range(0, len(KEY), 6)),
    "encoded": base64.b64encode(KEY.encode()).decode(),
    "after much": "word " * 40 + KEY,
}


@pytest.mark.parametrize("what", ECHOES)
@pytest.mark.parametrize("status", [401, 402, 500])
def test_a_key_that_comes_back_in_any_form_is_not_shown(
    server: Any,
    config_of: ConfigOf,
    run_of: RunOf,
    what: str,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = {"error": {"message": f"Wrong key: {ECHOES[what]} was sent"}}
    server.behaviour = lambda prompt: {"status": status, "body": body}
    with pytest.raises(JudgeError) as caught:
        judge_run(run_of("fine"), config_of(max_retries=2))
    told = str(caught.value) + caplog.text
    assert "Wrong key:" in told or what == "after much"
    assert not any(KEY[n : n + 5] in told for n in range(len(KEY) - 5))
    assert ECHOES[what] not in told
    assert len(str(caught.value)) < 500
