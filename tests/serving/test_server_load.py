"""Many requests at once: none waits for a long one, too many are refused, and all are counted."""

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

import tunewise as tw
from tunewise.serving.batch import TextBatch

from .conftest import RunOf, Serve, raw, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Have every step of a batch wait for a leave."""
    leave = threading.Semaphore(0)
    step = TextBatch.step

    def waiting(self: TextBatch) -> None:
        assert leave.acquire(timeout=20)
        step(self)

    monkeypatch.setattr(TextBatch, "step", waiting)
    return leave


def test_a_short_request_does_not_wait_for_a_long_one(
    run_of: RunOf, serve: Serve, slow: threading.Semaphore
) -> None:
    name, other = run_of(), run_of("other lora")
    served = serve(name, other)
    client = served.client()
    long = client.completions.create(model=name, prompt="A", max_tokens=60, stream=True)
    slow.release()
    first = next(long)  # so it is under way
    with ThreadPoolExecutor(1) as pool:
        short = pool.submit(client.completions.create, model=other, prompt="So", max_tokens=3)
        steps = 0
        while not short.done():
            slow.release()
            steps += 1
            wait_until(lambda: slow._value == 0 or short.done())
        assert short.result().choices[0].text == tw.load(other).generate("So", max_new_tokens=3)
    assert steps < 30
    for _ in range(60):
        slow.release()
    pieces = [chunk.choices[0].text for chunk in (first, *long)]
    assert "".join(pieces) == tw.load(name).generate("A", max_new_tokens=60)


def test_what_is_more_than_may_wait_is_refused_at_once(run_of: RunOf, serve: Serve) -> None:
    name, labels = run_of(), run_of(task="classification")
    served = serve(name, labels, started=False, max_batch=2, max_queue=3)
    client = served.client()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(client.completions.create, model=name, prompt="a", n=3, max_tokens=9)
        wait_until(lambda: served.counters.queue_length == 3)
        second = pool.submit(client.completions.create, model=name, prompt="a", n=2, max_tokens=9)
        wait_until(lambda: served.counters.queue_length == 5)
        with pytest.raises(openai.RateLimitError, match="the queue is full") as caught:
            client.completions.create(model=name, prompt="a", stream=True)
        assert caught.value.response.headers["retry-after"] == "1"
        rows = {"model": labels, "input": ["a"] * 3}
        answer = pool.submit(raw, served, "/classify", rows)
        wait_until(lambda: served.counters.queue_length == 8)
        assert raw(served, "/classify", rows)[0] == 429
        served.engine.start()
        assert len(first.result().choices) + len(second.result().choices) == 5
        assert len(answer.result()[1]["data"]) == 3
    assert client.completions.create(model=name, prompt="a", max_tokens=2).choices
    with pytest.raises(
        openai.UnprocessableEntityError, match="4 texts or rows at once; the maximum is 3"
    ):
        client.completions.create(model=name, prompt="a", n=4)


@pytest.mark.parametrize("stream", [True, False])
def test_when_a_client_leaves_its_text_is_written_no_further(
    run_of: RunOf, serve: Serve, slow: threading.Semaphore, stream: bool
) -> None:
    name = run_of()
    served = serve(name)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    asked = {"model": name, "prompt": "A", "max_tokens": 60, "stream": stream, "n": 2}
    connection.request("POST", "/v1/completions", json.dumps(asked))
    (group,) = served.engine._groups
    wait_until(lambda: len(group.batch.jobs) == 2)  # read, and waiting for the first step
    jobs = list(group.batch.jobs)
    response = connection.getresponse() if stream else connection
    response.close()
    connection.close()
    wait_until(lambda: all(job.cancelled for job in jobs))
    slow.release()
    wait_until(lambda: not group.batch.jobs)
    assert served.counters.tokens == 4
    for _ in range(5):
        slow.release()
    assert served.client().completions.create(model=name, prompt="A", max_tokens=4).choices


def test_a_pass_that_fails_ends_its_own_requests_alone(
    run_of: RunOf, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = run_of()
    served = serve(name)
    client = served.client()
    step, failures = TextBatch.step, [MemoryError("no room"), MemoryError("no room")]

    def failing(self: TextBatch) -> None:
        if failures:
            raise failures.pop()
        step(self)

    monkeypatch.setattr(TextBatch, "step", failing)
    with pytest.raises(openai.InternalServerError, match="internal error of the server"):
        client.completions.create(model=name, prompt="A", max_tokens=4)
    with pytest.raises(openai.APIError, match="internal error of the server"):
        list(client.completions.create(model=name, prompt="A", max_tokens=4, stream=True))
    assert client.completions.create(model=name, prompt="A", max_tokens=4).choices


def test_metrics_count_what_has_been_done(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    served = serve(name)
    client = served.client()
    client.completions.create(model=name, prompt="A good", max_tokens=5, n=2)
    raw(served, "/v1/completions", b"{")
    raw(served, "/secret/path")
    wait_until(lambda: served.counters.requests.total() == 3)
    status, text = raw(served, "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert values['tunewise_requests_total{route="/v1/completions",status="200"}'] == "1"
    assert values['tunewise_requests_total{route="/v1/completions",status="400"}'] == "1"
    assert values['tunewise_requests_total{route="other",status="404"}'] == "1"
    assert values["tunewise_generated_tokens_total"] == "10"
    assert values["tunewise_prompt_tokens_total"] == "12"
    assert values["tunewise_queue_length"] == "0"
    assert values['tunewise_batch_size_bucket{le="1"}'] == "0"
    assert (
        values['tunewise_batch_size_bucket{le="2"}'] == values["tunewise_batch_size_count"] == "4"
    )
    assert values['tunewise_request_seconds_count{route="/v1/completions"}'] == "2"
    kinds = [line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")]
    assert set(kinds) == {"counter", "gauge", "histogram"}
