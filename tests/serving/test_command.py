"""Laws of `tunewise serve`: it says where, ends cleanly, and says in a line what is wrong."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tunewise.cli import main as cli
from tunewise.errors import ConfigError
from tunewise.serving import ServeConfig, serve

from .conftest import RunOf, wait_until

pytestmark = pytest.mark.slow


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Give a server's process and its port; it is ended if it has not ended by itself."""
    command = [sys.executable, "-m", "tunewise", "serve", *words, "--port", "0"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        match = re.fullmatch(r"serving .* at http://127\.0\.0\.1:(\d+); Ctrl-C ends\n", line)
        assert match, line
        yield process, int(match[1])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_a_signal_what_runs_is_finished_and_nothing_new_is_taken(number: int) -> None:
    with serving("pocket", TUNEWISE_TOKEN="key") as (process, port):
        url = f"http://127.0.0.1:{port}/v1"
        client = openai.OpenAI(base_url=url, api_key="key", max_retries=0, timeout=60)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="none").models.list()
        asked: dict[str, Any] = {"model": "pocket", "prompt": "It was", "max_tokens": 250}
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
        chunks = client.completions.create(**asked)
        next(chunks)
        process.send_signal(number)
        wait_until(lambda: _refused(port))
        assert process.poll() is None
        *_, ended, last = chunks
        assert ended.choices[0].finish_reason == "length"
        assert last.usage.completion_tokens == 250
        client.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None and process.stderr.read() == ""


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_what_cannot_be_served_is_said_in_one_line(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        wrong = {
            ("pocket", "--port", port): f"--host 127.0.0.1 --port {port}: ",
            ("pocket", "--port", "70000"): "serve: port: ",
            ("pocket", "--max-batch", "0"): "serve: max_batch: ",
            ("pocket", "pocket", "--port", "0"): "pocket is named twice",
            ("nowhere", "--port", "0"): "nowhere",
        }
        for words, message in wrong.items():
            monkeypatch.setattr(sys, "argv", ["tunewise", "serve", *words])
            with pytest.raises(SystemExit) as caught:
                cli.main()
            assert caught.value.code == 2
            error = capsys.readouterr().err
            assert error.startswith("error: ") and error.count("\n") == 1
            assert message in error


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'tunewise\[serve\]'"):
        serve(["pocket"], ServeConfig())


def test_the_web_framework_is_imported_by_serve_alone() -> None:
    code = (
        "import sys, tunewise.cli.main, tunewise.serving, tunewise.predict;"
        "sys.exit(any(name in sys.modules for name in ('fastapi', 'uvicorn', 'starlette')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_token_is_in_no_message() -> None:
    config = ServeConfig.model_validate({"token": "very-secret"})
    assert "very-secret" not in f"{config} {config!r} {json.dumps(config.model_dump(mode='json'))}"


def test_a_run_whose_task_has_beams_says_that_there_are_none(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    name = run_of(task="generation")
    serve([name], ServeConfig(port=0))
    assert f"{Path(name)}: texts are written without its 2 beams" in caplog.text
