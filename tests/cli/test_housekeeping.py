"""Runs and the cache can be listed, and the cache cleared, except for the replies of judges."""

import fcntl
import json
from pathlib import Path

import pytest

import tunewise as package
from tunewise.reports.run_page import read_run
from tunewise.runs.folder import LOCK_FILE

from .conftest import Tunewise


def test_the_version_is_printed(tunewise: Tunewise) -> None:
    answer = tunewise("--version")
    assert (answer.code, answer.out) == (0, f"tunewise {package.__version__}\n")


def keep(folder: Path, kind: str, size: int) -> Path:
    path = folder / kind / "ab" / "file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * size)
    return path


def test_the_cache_is_shown_and_cleared_but_for_the_replies_of_judges(
    tunewise: Tunewise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TUNEWISE_CACHE", str(folder))
    assert "nothing is kept" in tunewise("cache").out
    computed = [keep(folder, kind, 2**20) for kind in ("tokens", "prefix", "machines")]
    paid, of_a_user = keep(folder, "judge", 3 * 2**20), keep(folder, "notes", 5)
    shown = tunewise("cache").out
    assert shown.splitlines()[0] == str(folder)
    assert shown.count("1.0 MiB") == 3
    assert "3.0 MiB" in shown
    assert all(path.exists() for path in computed)
    cleared = tunewise("cache", "--clear").out
    assert "removed: 3 files, 3.0 MiB" in cleared
    assert f"not removed: {folder / 'judge'}" in cleared
    assert not any(path.exists() for path in computed)
    assert paid.exists()
    assert of_a_user.exists()
    assert "removed: 0 files" in tunewise("cache", "--clear").out


def rows_of(tunewise: Tunewise) -> dict[str, dict[str, str]]:
    return {row["run"]: row for row in json.loads(tunewise("list", "runs", "--json").out)}


@pytest.mark.slow
def test_runs_and_studies_are_listed_with_what_became_of_them(
    tunewise: Tunewise, model_folder: Path, data: Path
) -> None:
    assert tunewise("list", "runs").code == 2
    words = ["--model", model_folder, "--task", "sst5", "--data", data, "train.batch_size=4"]
    for name in ("done", "other"):
        assert tunewise("run", *words, "--out", f"runs/{name}").code == 0
    assert read_run(Path("runs/done")).texts  # from the data folder that the run keeps
    other = Path("runs/other")
    (other / "result.json").unlink()
    study = {"name": "s", "base": {"model": str(model_folder), "task": "sst5"}}
    Path("s.yaml").write_text(json.dumps(study))
    assert tunewise("study", "s.yaml", "--data", data).code == 0
    listed = rows_of(tunewise)
    assert listed["runs/done"]["status"] == "finished"
    assert listed["runs/done"]["method"] == "lora"
    assert 0 <= float(listed["runs/done"]["test"]) <= 1
    assert listed["runs/other"]["status"] == "stopped"
    assert listed["runs/s"]["status"] == "study: 1 finished"
    with (other / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert rows_of(tunewise)["runs/other"]["status"] == "running"
    assert rows_of(tunewise)["runs/other"]["status"] == "stopped"  # the lock is there, but not held
    (other / "error.json").write_text('{"error": "no room", "traceback": []}')
    assert rows_of(tunewise)["runs/other"]["status"] == "failed: no room"
    (other / "config.yaml").write_text("model: [")
    assert rows_of(tunewise)["runs/other"]["status"].startswith("unreadable: ")
    assert "runs/done" in tunewise("list", "runs").out
