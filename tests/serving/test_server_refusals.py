"""What the server refuses, and how it says so."""

from typing import Any

import openai
import pytest

from .conftest import RunOf, Serve, raw

pytestmark = pytest.mark.slow

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
    "a prompt of numbers": ({"prompt": 1.5}, 422, "prompt: a text is needed"),
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
