"""Runs on one tiny base, each with weights of its own, and a server for them on a free port."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import uvicorn
from tiny import METHOD_SETTINGS, add_noise, tiny_model

from tunewise import methods
from tunewise.config import make_config, write_yaml
from tunewise.data.tokenizer import Tokenizer
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.folder import save_model
from tunewise.runs.folder import CONFIG_FILE
from tunewise.runs.model import adapted_model, save_trained
from tunewise.serving.app import make_app
from tunewise.serving.counters import Counters
from tunewise.serving.engine import Engine
from tunewise.serving.server import load_all

RunOf = Callable[..., str]
Serve = Callable[..., "Served"]

NUM_ASCII = 95
"""Ids of the tokenizer that are visible characters, with that of the end."""
TASKS: dict[str, dict[str, Any]] = {
    "instruction": {
        "kind": "instruction",
        "without_input": "Do {instruction}:",
        "turns": {"system": "!{content}", "user": "?{content}", "assistant": "={content}"},
        "decoding": {"max_new_tokens": 20},
    },
    "generation": {
        "kind": "generation",
        "template": "<{text}>",
        "completion": "{output}",
        "decoding": {"max_new_tokens": 10, "repetition_penalty": 1.3, "num_beams": 2},
    },
    "language_modeling": {"kind": "language_modeling"},
    "classification": {"kind": "classification", "labels": {"0": "bad", "1": "good"}},
    "pairs": {
        "kind": "classification",
        "template": "{one}/{two}",
        "labels": {"0": "no", "1": "yes", "2": "perhaps"},
    },
    "cloze": {
        "kind": "cloze",
        "template": "{text} It is",
        "verbalizers": {"bad": " bad", "good": " good"},
    },
}
VARIANTS: dict[str, dict[str, Any]] = {
    "other lora": {"kind": "lora", "rank": 3, "targets": ["query", "down", "head"]},
    "dora": {"kind": "lora", "rank": 4, "dora": True},
    "pissa": {"kind": "lora", "rank": 4, "init": "pissa"},
}
METHODS = {
    kind: {"kind": kind} | METHOD_SETTINGS.get(kind, {}) for kind in methods.METHODS
} | VARIANTS
MIXED = [
    name
    for name, settings in METHODS.items()
    if methods.METHODS[settings["kind"]]().num_prefix_positions == 0
]
"""What can be in one pass: a prefix would stand before every row."""


@pytest.fixture(autouse=True)
def on_the_processor_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewise.predict.choose_device", lambda: torch.device("cpu"))
    monkeypatch.setattr("tunewise.predict.choose_dtype", lambda *_: torch.float32)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Path]:
    """A model folder per family."""
    return {
        family: _saved(tmp_path_factory.mktemp(family), family, tokenizer) for family in FAMILIES
    }


def _saved(folder: Path, family: str, tokenizer: Tokenizer) -> Path:
    model = tiny_model(family, noise=0.0, seed=0, context_length=64, mlp_dim=32)
    _stir(model, 0)
    with torch.no_grad():  # bytes that are no text alone are seldom written
        model.get_parameter("token_embedding.weight")[NUM_ASCII:] *= 0.05
    save_model(model, folder / "base", tokenizer.end_of_text)
    tokenizer.save(folder / "base")
    return folder / "base"


def _stir(model: LanguageModel, seed: int) -> None:
    """Move all that is trained away from where it starts."""
    add_noise((parameter for _, parameter in model.trainable()), 0.2, seed)


@pytest.fixture(scope="session")
def run_of(
    bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer
) -> RunOf:
    """Return a function that makes the folder of a finished run."""

    @cache
    def make(method: str = "lora", task: str = "instruction", on: str = "gpt2") -> str:
        fields = {
            "model": str(bases[on]),
            "task": TASKS[task],
            "method": METHODS[method],
            "seed": list(METHODS).index(method),
            "train": {"precision": "fp32"},
        }
        config = make_config(fields=fields)
        folder = tmp_path_factory.mktemp(method.replace(" ", "_"))
        model = adapted_model(config, bases[on], tokenizer)
        _stir(model, config.seed)
        write_yaml(config, folder / CONFIG_FILE)
        save_trained(model, config, folder, tokenizer)
        return str(folder)

    return make


class Served:
    """A server in a thread of this process, and clients for it."""

    def __init__(self, names: Sequence[str], **limits: Any) -> None:
        sizes = {"max_batch": 8, "max_queue": 32} | {
            name: limits.pop(name) for name in ("max_batch", "max_queue") if name in limits
        }
        self.counters = Counters()
        self.engine = Engine(load_all(names), **sizes, counters=self.counters)
        options = {"token": None, "max_length": None, "max_body": 20_000} | limits
        app = make_app(self.engine, self.counters, **options)
        config = uvicorn.Config(app, port=0, lifespan="off", log_config=None)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        wait_until(lambda: self.server.started)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.clients: list[openai.OpenAI] = []

    def client(self, key: str = "none") -> openai.OpenAI:
        """Return OpenAI's own client."""
        url = f"http://127.0.0.1:{self.port}/v1"
        client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=20)
        self.clients.append(client)
        return client

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.server.should_exit = True
        self.thread.join()
        self.engine.stop()


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


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
def serve() -> Iterator[Serve]:
    """Return a function that serves runs until the test ends; `started=False` lets all wait."""
    servers: list[Served] = []

    def begin(*names: str, started: bool = True, **limits: Any) -> Served:
        servers.append(Served(names, **limits))
        if started:
            servers[-1].engine.start()
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()
