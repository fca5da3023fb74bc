"""Commands in this process and in one of their own, a tiny model, and rows for it."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tunewise.cli import main as cli
from tunewise.data.rows import SPLITS


class Answer(NamedTuple):
    """The output and the exit code of a command."""

    code: int
    out: str
    err: str


Tunewise = Callable[..., Answer]


@pytest.fixture
def tunewise(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Tunewise:
    """Return a function that runs a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEWISE_DATA", raising=False)
    monkeypatch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 5)

    def command(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tunewise", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        out, err = capfd.readouterr()
        return Answer(code if isinstance(code, int) else 0, out, err)

    return command


def real_process(*arguments: str, max_bytes: int | None = None) -> Answer:
    """Run `python -m tunewise` as a user does, with so much address space at most."""

    def limit() -> None:
        if max_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tunewise", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        preexec_fn=limit,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with rows of sst5, and of sick without its test split."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "sst5").mkdir()
    for split in SPLITS:
        lines = (json.dumps({"text": f"{split} {n}", "label": n % 5}) for n in range(10))
        (folder / "sst5" / f"{split}.jsonl").write_text("\n".join(lines))
    (folder / "sick").mkdir()
    for split in ("train", "validation"):
        (folder / "sick" / f"{split}.jsonl").write_text('{"premise": "a"}')
    return folder


@pytest.fixture
def run_words(model_folder: Path, data: Path) -> list[str | Path]:
    """Return the words of a quick run on sst5, in the folder `out`."""
    words = ["run", "--model", model_folder, "--task", "sst5", "--data", data]
    return [*words, "--out", "out", "train.epochs=1", "method.rank=2"]
