"""One of the processes that share some runs, as `test_parallel.py` starts them.

It writes beside each run's folder how that ended for this process.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from tunewise.config import make_config
from tunewise.errors import TunewiseError
from tunewise.metrics import metric
from tunewise.run import run
from tunewise.runs.progress import Progress
from tunewise.runs.result import Estimate
from tunewise.training.loop import Step

EXPECTED = Estimate(**dict.fromkeys(Estimate.model_fields, 0))
"""In place of a rehearsal before every run."""
rank: int = globals()["rank"]
environment: dict[str, str] = globals()["environment"]
jobs: list[dict[str, Any]] = globals()["jobs"]


class Disturbed(Progress):
    """Asks this process to stop after an update, or has it fail."""

    def __init__(self, at: dict[int, str]) -> None:
        super().__init__()
        self._at = at

    def step(self, step: Step) -> None:
        if self._at.get(step.number) == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        if self._at.get(step.number) == "fail":
            raise TunewiseError("this process has failed")


def ending(values: dict[str, Any], out: str, resume: bool, at: dict[int, dict[int, str]]) -> str:
    try:
        progress = Disturbed(at.get(rank, {}))
        run(make_config(fields=values), out=Path(out), resume=resume, progress=progress)
    except TunewiseError as error:
        return str(error)
    except KeyboardInterrupt:
        return "stopped"
    return "done"


os.environ |= environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
torch.set_num_threads(1)
metric.NUM_RESAMPLES = 20
sys.modules["tunewise.run"].estimate_run = lambda *_: EXPECTED  # type: ignore[attr-defined]
for job in jobs:
    Path(f"{job['out']}.{rank}").write_text(ending(**job))
