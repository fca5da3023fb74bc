"""The command scores a run or compares two, and says what came out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunewise.cli import main as cli

pytestmark = pytest.mark.slow

KEY = "sk-very-secret-0123456789"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tunewise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Any
) -> Command:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["tunewise", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return call


def test_a_run_is_scored(tunewise: Command, server: Any, run_of: Callable[..., Path]) -> None:
    server.behaviour = lambda prompt: "90" if "good" in server.response_in(prompt) else "10"
    folder = run_of("good", "bad")
    code, shown, _ = tunewise("judge", folder, "model=m", "calls=2")
    assert code == 0
    assert "50" in shown and KEY not in shown
    result = json.loads((folder / "result.json").read_text("utf-8"))
    assert result["metrics"]["test"]["judge"] == 50
    assert len(server.requests) == 4


def test_two_runs_are_compared(
    tunewise: Command, server: Any, run_of: Callable[..., Path], tmp_path: Path
) -> None:
    def favours_good(prompt: str) -> str:
        return "A" if prompt.index("good") < prompt.index("bad") else "B"

    server.behaviour = favours_good
    one, other = run_of("good", name="one"), run_of("bad", name="other")
    words = ("judge", one, "--against", other, "model=m", "calls=1", "--json")
    code, shown, _ = tunewise(*words, "--out", tmp_path / "pairs.json")
    judgement: dict[str, Any] = json.loads(shown)
    assert code == 0
    assert judgement["win_rate"] == 1.0
    assert (tmp_path / "pairs.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no model is named"),
        (("modle=m",), "did you mean 'model'"),
        (("model=m", "calls=0"), "calls"),
        (("model=m", "--out", "pairs.json"), "--against"),
    ],
)
def test_a_mistake_is_one_line(
    tunewise: Command, run_of: Callable[..., Path], words: tuple[str, ...], message: str
) -> None:
    code, shown, error = tunewise("judge", run_of("good"), *words)
    assert code == 2
    assert shown == ""
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
