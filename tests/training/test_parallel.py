"""A run that several processes share is the run of one process."""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import typer
from safetensors.torch import load_file

from tunewise.cli.train import study
from tunewise.config import make_config
from tunewise.errors import ConfigError
from tunewise.methods import METHODS
from tunewise.run import run
from tunewise.runs.folder import (
    CHECKPOINT_FOLDER,
    LOCK_FILE,
    PREDICTIONS_FILE,
    read_predictions,
    read_result,
)
from tunewise.runs.resume import read_steps
from tunewise.training import parallel

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

WORKER = str(Path(__file__).parent / "one_of_two.py")
SECONDS = 120
"""After which processes are taken to hang."""
Values = dict[str, Any]

TRAIN = {"epochs": 2, "batch_size": 5, "precision": "fp32", "tokens_per_pass": 40}
GENERATION = {"kind": "generation", "template": "{instruction}: ", "completion": "{output}"}
DROPOUT = {"method": {"kind": "lora", "dropout": 0.2}, "train": {"dropout": 0.1}}
DRAWN = {"decoding": {"max_new_tokens": 5, "temperature": 1.0}}
LIKELIEST = {"decoding": {"max_new_tokens": 5, "num_beams": 2}}
CASES: dict[str, Values] = {
    "lora": {"method": "lora"},  # of 12 rows an epoch's last update has 2
    "full": {"method": "full"},
    "lora, last of 1": {"method": "lora", "train": {"batch_size": 11}},  # one has no share of it
    "full, last of 1": {"method": "full", "train": {"batch_size": 11}},
    "by length": {"method": "full", "train": {"length_window": 2, "optimizer": "sgd"}},
    "stopped early": {
        "method": "lora",
        "train": {"epochs": 6, "metric": "f1", "warmup": 0, "early_stopping": {"patience": 1}},
    },
    "frozen prefix": {"method": "last_layer"},
    "drawn texts": {"method": "lora", "task": {**GENERATION, **DRAWN}},
    "likeliest texts": {"method": "lora", "task": {**GENERATION, **LIKELIEST}},
}


def values_of(case: Values, model: Path, rows: Path) -> Values:
    """Return a configuration on some rows; its rate is low for the sake of Adam.

    Adam makes a step of the whole rate of a gradient of next to nothing, whatever its sign.
    """
    method = case["method"] if isinstance(case["method"], dict) else {"kind": case["method"]}
    rate = METHODS[method["kind"]].default_learning_rate / 10
    return {
        "model": str(model),
        "task": {"kind": "classification", "path": str(rows), **case.get("task", {})},
        "method": method,
        "train": {**TRAIN, "learning_rate": rate, **case.get("train", {})},
    }


def job(values: Values, out: Path, resume: bool = False, at: Values | None = None) -> Values:
    """Return a run for two processes.

    Args:
        at: what happens to which process, after which update.
    """
    return {"values": values, "out": str(out), "resume": resume, "at": at or {}}


def free_port() -> str:
    with socket.socket() as some:
        some.bind(("localhost", 0))
        return str(some.getsockname()[1])


def in_two(*jobs: Values) -> None:
    """Make some runs, one after the other, in two processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tunewise.run"])
    address = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    given = {"environment": {**address, "CUDA_VISIBLE_DEVICES": ""}, "jobs": jobs}
    processes = [
        context.Process(target=runpy.run_path, args=(WORKER, {**given, "rank": rank}))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging
    assert [process.exitcode for process in processes] == [0, 0]


def endings(folder: Path) -> list[str]:
    """Return how a run ended for each process."""
    return [Path(f"{folder}.{rank}").read_text("utf-8") for rank in range(2)]


@pytest.fixture(scope="module")
def shared(model_folder: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what two processes have made: of each case, and of a run with dropout."""
    folder = tmp_path_factory.mktemp("shared")
    jobs = [job(values_of(CASES[name], model_folder, rows), folder / name) for name in CASES]
    dropout = values_of(DROPOUT, model_folder, rows)
    stopped = folder / "stopped"
    (folder / "taken").mkdir()
    (folder / "taken" / "mine.txt").touch()
    in_two(
        *jobs,
        job(dropout, folder / "whole"),
        job(dropout, stopped, at={1: {2: "stop"}}),
        job(dropout, stopped, resume=True, at={0: {4: "stop"}}),
        job(dropout, stopped, resume=True),
        job(values_of(CASES["lora"], model_folder, rows), folder / "begun", at={0: {4: "stop"}}),
        job(dropout, folder / "taken"),
    )
    return folder


def assert_same(one: Path, two: Path, tolerance: float = 1e-5) -> None:
    """See that two runs have the same files, updates, weights, predictions and metrics."""
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}

    def close(value: Any) -> Any:
        return pytest.approx(value, rel=tolerance, abs=tolerance)

    steps = [[replace(step, seconds=0.0) for step in read_steps(folder)] for folder in (one, two)]
    assert len(steps[0]) == len(steps[1])
    for mine, other in zip(*steps, strict=True):
        assert asdict(other) == close(asdict(mine))
    weights = [load_file(next(folder.glob("*/*.safetensors"))) for folder in (one, two)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=tolerance)
    predictions = [read_predictions(folder / PREDICTIONS_FILE) for folder in (one, two)]
    for answer, same in zip(*predictions, strict=True):
        expected = asdict(answer) | {
            name: close(getattr(answer, name)) for name in ("log_likelihood", "probabilities")
        }
        assert asdict(same) == expected
    mine, other = (read_result(folder) for folder in (one, two))
    assert mine is not None and other is not None
    assert other.metrics == {split: close(values) for split, values in mine.metrics.items()}
    assert other.best.step == mine.best.step and other.data == mine.data


@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_run_of_one(
    shared: Path, model_folder: Path, rows: Path, tmp_path: Path, case: str
) -> None:
    assert endings(shared / case) == ["done", "done"]
    values = values_of(CASES[case], model_folder, rows)
    record = run(make_config(fields=values), out=tmp_path / "one")
    assert_same(record.folder, shared / case)
    if case == "stopped early":
        assert len(record.steps) < 6 * 3


def test_a_stop_asked_of_one_stops_both_and_they_go_on_to_the_same_bits(shared: Path) -> None:
    assert endings(shared / "stopped") == ["done", "done"]
    assert_same(shared / "whole", shared / "stopped", tolerance=0.0)


def test_what_two_have_begun_can_be_ended_by_one(
    shared: Path, model_folder: Path, rows: Path, tmp_path: Path
) -> None:
    assert endings(shared / "begun") == ["stopped", "stopped"]
    (last,) = (shared / "begun" / CHECKPOINT_FOLDER).iterdir()
    assert last.name.startswith("000000004-")
    config = make_config(fields=values_of(CASES["lora"], model_folder, rows))
    one = run(config, out=tmp_path / "one")
    assert_same(one.folder, run(config, out=shared / "begun", resume=True).folder)


def test_a_mistake_that_the_main_process_finds_is_told_by_both(shared: Path) -> None:
    one, two = endings(shared / "taken")
    assert one == two and "holds something already" in one


@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_fails_leaves_no_other_waiting(
    model_folder: Path, rows: Path, tmp_path: Path, failing: int
) -> None:
    case = {"method": "lora", "train": {"checkpoint_every": 2}}
    values = values_of(case, model_folder, rows)
    in_two(job(values, tmp_path / "run", at={failing: {3: "fail"}}))
    said = endings(tmp_path / "run")
    assert said[failing] == "this process has failed"
    assert said[1 - failing].startswith("the processes of this run have lost each other")
    assert "the last checkpoint is of update 2" in said[1 - failing]
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_each_process_and_update_has_its_own_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(rank: int, number: int) -> float:
        monkeypatch.setattr(parallel.distributed, "get_rank", lambda: rank)
        parallel.seed_process(0, number)
        return torch.rand(()).item()

    monkeypatch.setattr(parallel, "_is_alone", lambda: False)
    places = [(0, 1), (0, 2), (1, 1), (1, 2)]
    found = [drawn(*place) for place in places]
    assert len(set(found)) == len(places)
    assert [drawn(*place) for place in places] == found


def test_accelerate_launch_trains_and_only_the_main_process_speaks(tmp_path: Path) -> None:
    words = ["task.samples=9", "train.epochs=1", "train.batch_size=4", "train.precision=fp32"]
    words += ["train.learning_rate=1e-4", "train.trackers=[tensorboard]"]
    run(make_config(overrides=words), out=tmp_path / "one")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--main_process_port", free_port()]
    done = subprocess.run(
        [*launch, "-m", "tunewise", "run", *words, "--out", str(tmp_path / "two")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("update 1/3") == done.stdout.count("test accuracy") == 1
    assert_same(tmp_path / "one", tmp_path / "two")
    assert len(list((tmp_path / "two" / "tensorboard").glob("events*"))) == 1
    result = read_result(tmp_path / "two")
    assert result is not None and result.environment.device.startswith("2 x cpu")


def test_a_study_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--jobs"):
        study(cast(typer.Context, None), tmp_path / "study.yaml")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match="there are 1 GPUs here"):
        parallel.join_others()
