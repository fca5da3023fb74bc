"""A run whose process is killed at random moments ends like one undisturbed."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from tunewise.config import RunConfig
from tunewise.run import run

from .conftest import Configured, checkpoints, left

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

KILLS = int(os.environ.get("TUNEWISE_KILLS", "10"))
"""`make torture` asks for more."""


def test_a_run_killed_at_random_moments_ends_like_one_undisturbed(
    configured: Configured, tmp_path: Path
) -> None:
    epochs = f"train.epochs={2 * KILLS}"  # of three updates each: more than are made between kills
    config = configured(epochs, "train.checkpoint_every=1", "train.dropout=0.1")
    whole = run(config, out=tmp_path / "whole")
    kill_and_resume(config, tmp_path / "parts", kills=KILLS, seed=KILLS)
    assert left(run(config, out=tmp_path / "parts", resume=True)) == left(whole)


def kill_and_resume(config: RunConfig, folder: Path, kills: int, seed: int) -> None:
    """Begin and resume a run, and kill its process each time soon after a checkpoint or in one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tunewise.run"])
    chance = random.Random(seed)
    for _ in range(kills):
        arguments = {"out": folder, "resume": True}
        process = context.Process(target=run, args=(config,), kwargs=arguments)
        process.start()
        before = checkpoints(folder)
        while process.is_alive() and checkpoints(folder) == before:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.05)  # a few updates, each with its checkpoint
        process.kill()
        process.join()
