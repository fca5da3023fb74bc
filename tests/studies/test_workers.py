"""Processes that work side by side stop together, and leave what can be gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewise.config import write_yaml
from tunewise.runs.folder import CHECKPOINT_FOLDER, METRICS_FILE, RESULT_FILE

from .conftest import MakeStudy

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("what", "reaches_all"),
    [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)],
)
def test_a_signal_ends_each_run_with_a_checkpoint_and_no_other_is_begun(
    what: signal.Signals, reaches_all: bool, make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(seeds=5, vary={"train.epochs": [5000]})
    write_yaml(study, tmp_path / "study.yaml")
    out = tmp_path / "out"
    words = ["study", str(tmp_path / "study.yaml"), "--out", str(out), "--jobs", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "tunewise", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while sum(path.stat().st_size > 0 for path in out.glob(f"runs/*/{METRICS_FILE}")) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        if reaches_all:  # as by Ctrl-C in a terminal, or from a scheduler
            os.killpg(process.pid, what)
        else:
            process.send_signal(what)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + what
    assert "with a checkpoint" in said
    runs = list((out / "runs").iterdir())
    assert len(runs) == 2
    for run in runs:
        assert list((run / CHECKPOINT_FOLDER).iterdir())
        assert not (run / RESULT_FILE).exists()
