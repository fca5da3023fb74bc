"""Laws of the server, seen by OpenAI's own client, or by raw requests where it would not do."""

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from torch import Tensor

import tunewise as tw
from tunewise.generation.generate import generate
from tunewise.generation.stop import text_of
from tunewise.serving.batch import TextBatch
from tunewise.serving.mixing import Mix

from .conftest import METHODS, RunOf, Serve, Served, wait_until


def raw(
    served: Served,
    path: str,
    body: Any = None,
    method: str | None = None,
    **headers: str,
) -> tuple[int, Any]:
    """Return the status and the body of a response; a body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method or ("GET" if body is None else "POST"), path, sent, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    is_json = response.headers["content-type"] == "application/json"
    return response.status, json.loads(text) if is_json else text


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


# Texts.


def test_requests_to_many_runs_go_through_one_pass_and_get_what_each_run_writes(
    run_of: RunOf, bases: dict[str, Any], serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(bases["gpt2"]), *map(run_of, ("lora", "other lora", "full", "soft_prompt"))]
    passes: list[set[int]] = []
    logits = Mix.logits

    def noting(self: Mix, hidden: Tensor, owners: Tensor) -> Tensor:
        passes.append(set(owners.tolist()))
        return logits(self, hidden, owners)

    monkeypatch.setattr(Mix, "logits", noting)
    served = serve(*names, started=False)
    client = served.client()

    def ask(name: str) -> str:
        answer = client.completions.create(model=name, prompt="A good", max_tokens=20)
        assert answer.model == name
        return answer.choices[0].text

    with ThreadPoolExecutor(len(names)) as pool:
        answers = pool.map(ask, names)
        wait_until(lambda: served.counters.queue_length == len(names))
        served.engine.start()
        found = list(answers)
    expected = [tw.load(name).generate("A good", max_new_tokens=20) for name in names]
    assert found == expected
    assert len(set(found)) == len(names)
    assert passes[:10] == [set(range(5))] * 10


def test_runs_of_every_method_are_served_at_once(run_of: RunOf, serve: Serve) -> None:
    names = [run_of(method) for method in METHODS]
    served = serve(*names)
    client = served.client()

    def ask(name: str) -> str:
        return client.completions.create(model=name, prompt="So", max_tokens=9).choices[0].text

    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(ask, names))
    assert found == [tw.load(name).generate("So", max_new_tokens=9) for name in names]


def test_a_stream_is_the_whole_text_piece_by_piece(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    client = serve(name).client()
    asked: dict[str, Any] = {"model": name, "prompt": "A good", "max_tokens": 30, "n": 2, "seed": 3}
    asked["temperature"] = 1.0
    whole = client.completions.create(**asked)
    options = {"include_usage": True}
    chunks = list(client.completions.create(**asked, stream=True, stream_options=options))
    *parts, last = chunks
    for index, choice in enumerate(whole.choices):
        own = [chunk.choices[0] for chunk in parts if chunk.choices[0].index == index]
        assert "".join(part.text for part in own) == choice.text
        assert len(own) > 5
        assert [part.finish_reason for part in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == choice.finish_reason
    assert last.choices == [] and last.usage == whole.usage
    assert last.usage is not None and last.usage.prompt_tokens == 6
    assert {chunk.id for chunk in chunks} == {last.id}
    assert all(chunk.usage is None for chunk in client.completions.create(**asked, stream=True))


def test_a_stream_ends_with_done(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    asked = {"model": name, "prompt": "A", "max_tokens": 2, "stream": True}
    status, text = raw(serve(name), "/v1/completions", asked)
    *events, end = text.removesuffix("\n\n").split("\n\n")
    assert (status, end) == (200, "data: [DONE]")
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in events)


def test_what_is_drawn_with_a_seed_is_what_the_run_draws(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    client = serve(name).client()
    predictor = tw.load(name)
    drawn: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9}
    decoding = predictor.decoding({"max_new_tokens": 12, **drawn})
    prompts = [predictor.prompt_ids("A")] * 3
    ids = generate(predictor.model, prompts, predictor.tokenizer, decoding, seed=5)
    asked: dict[str, Any] = {"model": name, "prompt": "A", "max_tokens": 12, "n": 3, **drawn}
    found = [choice.text for choice in client.completions.create(**asked, seed=5).choices]
    assert found == [text_of(some, predictor.tokenizer, decoding) for some in ids]
    assert len(set(found)) == 3
    texts = {client.completions.create(**asked).choices[0].text for _ in range(4)}
    assert len(texts) == 4


def test_prompts_are_texts_or_tokens_one_or_several(run_of: RunOf, serve: Serve) -> None:
    name = run_of("soft_prompt")
    client = serve(name).client()
    predictor = tw.load(name)
    ids = predictor.tokenizer.tokenize(["A good", "So"])
    expected = [predictor.generate(text, max_new_tokens=7) for text in ("A good", "So")]
    for prompt in (["A good", "So"], ids, ids[0], "A good"):
        answer = client.completions.create(model=name, prompt=prompt, max_tokens=7)
        found = [choice.text for choice in answer.choices]
        assert found == expected[: len(found)]
        echoed = client.completions.create(model=name, prompt=prompt, max_tokens=7, echo=True)
        assert echoed.choices[0].text == "A good" + expected[0]
    answer = client.completions.create(model=name, prompt=["A", "So"], max_tokens=2, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None and answer.usage.completion_tokens == 8
    assert client.completions.create(model=name, prompt="", max_tokens=2).choices[0].text


def test_what_is_not_said_is_as_the_task_has_it(run_of: RunOf, serve: Serve) -> None:
    name = run_of(task="generation")
    answer = serve(name).client().completions.create(model=name, prompt="A")
    alone = tw.load(name).generate("A", num_beams=1)
    assert answer.choices[0].text == alone != tw.load(name).generate("A", repetition_penalty=1.0)
    assert answer.usage is not None and answer.usage.completion_tokens == 10
    assert answer.choices[0].finish_reason == "length"


def test_a_text_ends_before_a_stop_string(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    client = serve(name).client()
    whole = tw.load(name).generate("A", max_new_tokens=20)
    for stop in (whole[5], [whole[5:7], whole[3]]):
        answer = client.completions.create(model=name, prompt="A", max_tokens=20, stop=stop)
        assert answer.choices[0].text == tw.load(name).generate(
            "A", max_new_tokens=20, stop=[*stop]
        )
        assert answer.choices[0].finish_reason == "stop"


CONVERSATIONS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("instruction", [{"role": "user", "content": "it"}], "Do it:"),
    (
        "instruction",
        [{"role": "user", "content": [{"type": "text", "text": t} for t in "it"]}],
        "Do it:",
    ),
    (
        "instruction",
        [
            {"role": "developer", "content": "so"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
        "!so?a=b?c=",
    ),
    ("generation", [{"role": "user", "content": "it"}], "<it>"),
    ("language_modeling", [{"role": "user", "content": "it"}], "it"),
    (
        "generation",
        [{"role": "system", "content": "so"}, {"role": "user", "content": "it"}],
        "so\n\nit",
    ),
]


@pytest.mark.parametrize(("task", "messages", "prompt"), CONVERSATIONS)
def test_a_conversation_is_put_as_the_task_puts_it(
    run_of: RunOf, serve: Serve, task: str, messages: Any, prompt: str
) -> None:
    name = run_of(task=task)
    client = serve(name).client()
    expected = tw.load(name).generate(prompt, max_new_tokens=8, num_beams=1)
    asked: dict[str, Any] = {"model": name, "messages": messages}
    answer = client.chat.completions.create(**asked, max_completion_tokens=8)
    assert answer.choices[0].message.content == expected
    assert answer.choices[0].message.role == "assistant"
    chunks = list(client.chat.completions.create(**asked, max_tokens=8, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant", None]


# Labels.


def test_rows_get_the_labels_and_probabilities_of_their_run(run_of: RunOf, serve: Serve) -> None:
    texts = [f"{n} good films" for n in range(40)]
    pairs = [{"one": text, "two": "so"} for text in texts]
    names = {task: run_of(task=task) for task in ("classification", "pairs", "cloze")}
    served = serve(*names.values(), max_queue=200)
    asked: list[tuple[str, list[Any]]] = [("classification", texts), ("pairs", pairs)]
    asked += [("cloze", texts), ("classification", [{"text": text} for text in texts])]

    def ask(request: tuple[str, list[Any]]) -> Any:
        return raw(served, "/classify", {"model": names[request[0]], "input": request[1]})

    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(ask, asked))
    for (task, rows), (status, found) in zip(asked, answers, strict=True):
        assert status == 200
        given = [row if isinstance(row, dict) else {"text": row} for row in rows]
        expected = tw.load(names[task]).predict(given)
        assert [entry["index"] for entry in found["data"]] == list(range(len(rows)))
        for entry, answer in zip(found["data"], expected, strict=True):
            assert entry["label"] == answer["label"]
            assert entry["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)
    one = raw(served, "/classify", {"model": names["classification"], "input": texts[0]})[1]
    (entry,) = one["data"]
    assert entry["label"] == answers[0][1]["data"][0]["label"]


# What is refused.

WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "an unknown model": ({"model": "pcket"}, 404, "no model 'pcket' is served"),
    "log-probabilities": ({"logprobs": 0}, 422, "logprobs: is not supported"),
    "a penalty": ({"presence_penalty": 0.5}, 422, "presence_penalty: is not supported"),
    "an unknown field": ({"max_token": 5}, 422, "unknown field 'max_token'; did you mean"),
    "no tokens": ({"max_tokens": 0}, 422, "max_tokens: Input should be greater than 0 (found 0)"),
    "a long prompt": (
        {"prompt": "x" * 70},
        422,
        "a prompt of 70 tokens and 2 new ones; the maximum is 64 in all",
    ),
    "many tokens": (
        {"max_tokens": 64},
        422,
        "a prompt of 1 tokens and 64 new ones; the maximum is 64 in all",
    ),
    "many texts": (
        {"prompt": ["a", "b"], "n": 65},
        422,
        "130 texts are asked for; 1 to 128 are possible",
    ),
    "too many texts": ({"n": 129}, 422, "n: Input should be less than or equal to 128"),
    "no text": ({"prompt": []}, 422, "0 texts are asked for"),
    "a token that is none": ({"prompt": [5, 257]}, 422, "prompt: a token is not between 0 and 256"),
    "a cold temperature": ({"temperature": -1}, 422, "temperature: Input should be greater"),
    "an empty stop": ({"stop": ""}, 422, "an empty string would end every output"),
    "half a character": ({"prompt": "\ud800"}, 400, "surrogates not allowed"),
    "a prompt of numbers": ({"prompt": 1.5}, 422, "prompt: Input should be a valid string"),
}


def test_what_is_wrong_is_named_in_an_error_of_openais_shape(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    served = serve(name)
    for what, (fields, status, message) in WRONG.items():
        asked = {"model": name, "prompt": "a", "max_tokens": 2} | fields
        found, content = raw(served, "/v1/completions", asked)
        assert (what, found) == (what, status)
        assert content.keys() == {"error"}
        assert message in content["error"]["message"], what
        assert content["error"]["type"] == "invalid_request_error"
    neutral = {"logprobs": None, "best_of": 1, "presence_penalty": 0.0, "user": "me", "stop": None}
    asked = {"model": name, "prompt": "a", "max_tokens": 2, **neutral}
    assert raw(served, "/v1/completions", asked)[0] == 200
    for body in (b"{", b"\xff", b"[" * 19_000):
        status, content = raw(served, "/v1/completions", body)
        assert status == 400 and "not JSON" in content["error"]["message"]
    assert raw(served, "/v1/completions", [1])[0] == 422
    assert raw(served, "/nowhere")[0] == 404
    assert raw(served, "/v1/completions")[0] == 405


def test_openais_client_raises_its_own_errors(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    client = serve(name).client()
    with pytest.raises(openai.NotFoundError, match="no model 'other' is served"):
        client.completions.create(model="other", prompt="a")
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.completions.create(model=name, prompt="a" * 99)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.UnprocessableEntityError, match="there is nothing to answer"):
        messages: Any = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        client.chat.completions.create(model=name, messages=messages)
    assert [model.id for model in client.models.list()] == [name]
    assert client.models.retrieve(name).id == name


def test_a_run_does_what_its_task_does(run_of: RunOf, serve: Serve) -> None:
    labels, pairs, texts = (run_of(task=t) for t in ("classification", "pairs", "instruction"))
    served = serve(labels, pairs, texts)
    wrong = {
        "no columns": ({"model": pairs, "input": "a"}, "an object with one, two is needed"),
        "a column": ({"model": pairs, "input": [{"one": "a"}]}, "input 0: no column 'two'"),
        "a type": ({"model": labels, "input": {"text": 3}}, "holds 3; text is needed"),
        "a task": ({"model": texts, "input": "a"}, "of kind instruction, which has no labels"),
    }
    for what, (asked, message) in wrong.items():
        status, content = raw(served, "/classify", asked)
        assert status == 422 and message in content["error"]["message"], what
    status, content = raw(served, "/v1/completions", {"model": labels, "prompt": "a"})
    assert status == 422 and "label layer and writes nothing" in content["error"]["message"]


def test_a_length_that_is_allowed_counts_prompt_and_text(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    client = serve(name, max_length=10).client()
    answer = client.completions.create(model=name, prompt="a" * 6)
    assert answer.usage is not None and answer.usage.completion_tokens == 4
    with pytest.raises(openai.UnprocessableEntityError, match="the maximum is 10 in all"):
        client.completions.create(model=name, prompt="a" * 6, max_tokens=5)


def test_a_body_that_is_too_long_is_refused(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    served = serve(name, max_body=300)
    for length in (400, 3_000_000):
        with pytest.raises(openai.APIStatusError, match="longer than 300 bytes") as caught:
            served.client().completions.create(model=name, prompt="a" * length)
        assert caught.value.status_code == 413


def test_a_token_opens_every_route_but_health_which_is_open(run_of: RunOf, serve: Serve) -> None:
    name = run_of()
    served = serve(name, token="sécret")
    for path in ("/v1/models", "/metrics", "/nowhere"):
        assert raw(served, path)[0] == 401
        assert raw(served, path, Authorization="Bearer s")[0] == 401
    assert raw(served, "/healthz") == (200, {"status": "ok"})
    with pytest.raises(openai.AuthenticationError, match="a bearer token is needed"):
        served.client("wrong").completions.create(model=name, prompt="a")
    served = serve(name, token="secret")
    assert served.client("secret").completions.create(model=name, prompt="a").choices


# Many at once.


def test_a_short_request_does_not_wait_for_a_long_one(
    run_of: RunOf, serve: Serve, slow: threading.Semaphore
) -> None:
    name, other = run_of(), run_of("other lora")
    served = serve(name, other)
    client = served.client()
    long = client.completions.create(model=name, prompt="A", max_tokens=60, stream=True)
    (group,) = served.engine._groups
    wait_until(lambda: bool(group.batch.jobs))
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
    pieces = [chunk.choices[0].text for chunk in long]
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
