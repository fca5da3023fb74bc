"""A judge that is a real server on this machine, and runs for it to judge."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tunewise.judging import JudgeConfig
from tunewise.metrics import Prediction
from tunewise.runs.folder import PREDICTIONS_FILE, RESULT_FILE, write_predictions

KEY = "sk-very-secret-0123456789"
RESPONSE = re.compile(r"<response-\w+>\n(.*)\n</response-\w+>", re.DOTALL)


@dataclass
class Reply:
    """What the server does with a request."""

    text: str | None = "50"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    """In place of a chat completion."""
    delay: float = 0.0
    pause: float = 0.0
    """Seconds between two bytes of the body."""
    together: threading.Barrier | None = None
    """Whether to wait until so many requests are under way."""
    drop: bool = False
    """Whether to close the connection without a word."""


Behaviour = Callable[[str], dict[str, Any] | str]
"""From a prompt to a reply's text, or the fields of a `Reply`."""


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint that behaves as a test wants, and remembers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour: Behaviour = lambda prompt: "50"
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.times: list[float] = []
        self.most_at_once = 0
        self.at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.requests]

    @staticmethod
    def response_in(prompt: str) -> str:
        """Return the response that a prompt shows."""
        found = RESPONSE.search(prompt)
        assert found
        return found[1]

    def handle_error(self, *_: Any) -> None:
        """Let a client go away in peace."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: apart, the second waits 40 ms for the client's nod

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        with server.lock:
            server.requests.append(request)
            server.times.append(time.perf_counter())
            server.keys.add(self.headers["authorization"])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            found = server.behaviour(request["messages"][0]["content"])
        reply = Reply(**(found if isinstance(found, dict) else {"text": found}))
        time.sleep(reply.delay)
        if reply.together is not None:
            reply.together.wait(timeout=60)
        with server.lock:
            server.at_once -= 1
        if self.path != "/v1/chat/completions":
            reply = Reply(status=404, body={"error": {"message": "no such page"}})
        if reply.drop:
            self.close_connection = True
            return
        self.answer(reply)

    def answer(self, reply: Reply) -> None:
        message = {"role": "assistant", "content": reply.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        completion = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
        body = {**completion, "choices": [choice]} if reply.body is None else reply.body
        content = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if isinstance(body, str) else "application/json"
        self.send_response(reply.status)
        for name, value in ({"content-type": kind} | reply.headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content.encode())))
        self.end_headers()
        for byte in content.encode() if reply.pause else ():
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(reply.pause)
        if not reply.pause:
            self.wfile.write(content.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache and an environment of one's own, and short waits."""
    for name in ("OPENAI_BASE_URL", "TUNEWISE_JUDGE_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tunewise.judging.endpoint.BASE_DELAY", 0.01)


@pytest.fixture
def config_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JudgeConfig]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def make(**values: Any) -> JudgeConfig:
        return JudgeConfig(**{"model": "judge", "base_url": server.url, "calls": 1} | values)

    return make


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes the folder of a finished run with some responses."""

    def make(*responses: str, name: str = "run", **changes: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        result = {
            "name": name,
            "config": {"model": "gpt2", "note": "naïve"},
            "metrics": {"validation": {"loss": 1.5}, "test": {"loss": 0.1 + 0.2}},
            "intervals": {"test": {"loss": [0.25, 0.5]}},
        }
        (folder / RESULT_FILE).write_text(json.dumps(result, indent=2) + "\n", "utf-8")
        predictions = [
            Prediction(
                **{
                    "id": f"test:{n}",
                    "prompt": f"Question {n}?",
                    "expected": f"Answer {n}.",
                    "predicted": response,
                    "log_likelihood": -1.0,
                    "num_scored": 1,
                }
                | changes
            )
            for n, response in enumerate(responses)
        ]
        write_predictions(folder / PREDICTIONS_FILE, predictions)
        return folder

    return make


ConfigOf = Callable[..., JudgeConfig]
RunOf = Callable[..., Path]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "judgements.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
