"""Laws of the server, seen by OpenAI's own client, or by raw requests where it would not do."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch import Tensor

import tunewise as tw
from tunewise.generation.generate import generate
from tunewise.generation.stop import text_of
from tunewise.serving.mixing import Mix

from .conftest import METHODS, RunOf, Serve, raw, wait_until

pytestmark = pytest.mark.slow

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
            assert entry["label"] == answer["predicted"]
            assert entry["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)
    one = raw(served, "/classify", {"model": names["classification"], "input": texts[0]})[1]
    (entry,) = one["data"]
    assert entry["label"] == answers[0][1]["data"][0]["label"]
