"""Laws of the estimate: it is close to what runs take, and says what to do if that is too much."""

import json
import multiprocessing
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tunewise.cli.main import main
from tunewise.config import RunConfig, make_config
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_device
from tunewise.estimate import expected, warn_of_memory
from tunewise.estimate.machines import GPUS, Machine, this_machine
from tunewise.estimate.rehearsal import Operation
from tunewise.estimate.survey import Requirement, Survey, survey
from tunewise.estimate.work import Work, rehearse
from tunewise.memory import free_bytes, held_bytes, total_bytes
from tunewise.methods import METHODS
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.models.folder import build_model, find_folder, save_model
from tunewise.models.language_model import initialise
from tunewise.run import run
from tunewise.runs.folder import read_result
from tunewise.runs.memo import Shared
from tunewise.runs.prepare import prepare
from tunewise.runs.result import Estimate, Result

pytestmark = pytest.mark.slow

TASK = {"name": "pocket_reviews", "samples": 32}
FIVE = ["full", "last_layer", "last_blocks", "lora", "soft_prompt"]


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in the shape of the 124M GPT-2, with random weights and pocket's tokenizer."""
    model = build_model(KNOWN_MODELS["gpt2"].config, "cpu")
    initialise(model, torch.Generator().manual_seed(0))
    tokenizer = Tokenizer.load(find_folder("pocket"))
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    save_model(model, folder, tokenizer.end_of_text)
    tokenizer.save(folder)
    return folder


def measured(config: RunConfig, folder: Path) -> Result:
    """Return the result of a run in a process of its own, whose memory is then its own too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tunewise.run"])
    process = context.Process(target=run, args=(config,), kwargs={"out": folder})
    process.start()
    process.join()
    result = read_result(folder)
    assert result is not None
    return result


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("method", FIVE)
def test_memory_is_estimated_to_a_tenth(method: str, epochs: int, tmp_path: Path) -> None:
    words = [f"train.epochs={epochs}", "task.samples={train: 64, validation: 32, test: 32}"]
    result = measured(make_config(None, {"method": method}, words), tmp_path / "run")
    assert result.estimate is not None
    assert result.estimate.peak_bytes == pytest.approx(result.memory.peak_bytes, rel=0.1)


@pytest.mark.parametrize("method", FIVE)
def test_memory_of_a_larger_model_is_estimated_to_a_tenth(
    method: str, gpt2_folder: Path, tmp_path: Path
) -> None:
    words = ["train.epochs=1", "task.samples={train: 16, validation: 8, test: 8}"]
    config = make_config(None, {"method": method, "model": str(gpt2_folder)}, words)
    result = measured(config, tmp_path / "run")
    assert result.estimate is not None
    assert result.estimate.peak_bytes == pytest.approx(result.memory.peak_bytes, rel=0.1)


@pytest.mark.parametrize(("method", "num_frozen"), [("last_layer", 6), ("last_blocks", 4)])
def test_the_output_of_frozen_blocks_is_counted(method: str, num_frozen: int) -> None:
    def work(*words: str) -> Work:
        config = make_config(None, {"method": method, "task": TASK}, words)
        return rehearse(prepare(config, None, choose_device(), Shared(), SPLITS))

    kept = work()
    layers = [o.num_flops for o in kept.frozen_pass if o.shapes and len(o.shapes[0]) == 2]
    of_a_block = 2 * kept.frozen_tokens * 12 * 256**2
    # The last of all computes little more than the keys and values of what is not scored.
    num_whole = num_frozen - (num_frozen == 6)
    assert num_whole * of_a_block <= sum(layers) < (num_whole + 0.4) * of_a_block
    assert not work("train.frozen_cache=0").frozen_pass


def test_a_run_that_takes_too_much_memory_logs_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = torch.device("cpu")
    known = Estimate(
        peak_bytes=held_bytes(device) + 2**30,
        epoch_seconds=1,
        frozen_seconds=0,
        evaluation_seconds=0,
        seconds=1,
    )
    monkeypatch.setattr(expected, "free_bytes", lambda _: 2**31)
    warn_of_memory(known, device)
    assert not caplog.messages
    monkeypatch.setattr(expected, "free_bytes", lambda _: 2**29)
    warn_of_memory(known, device)
    assert "train.tokens_per_pass" in caplog.messages[0]


def test_the_machine_says_what_memory_it_has() -> None:
    device = choose_device()
    assert 0 < free_bytes(device) <= total_bytes(device)
    assert 0 < held_bytes(device) < total_bytes(device)


def test_an_operation_takes_as_long_as_its_nearest_bound() -> None:
    machine = Machine("it", 0, fp32_flops=1e9, bf16_flops=4e9, bytes_per_second=1e6,
                      operation_seconds=1e-3)  # fmt: skip
    bound_by = {
        "arithmetic": Operation(8_000_000_000, 1000, torch.float32),
        "arithmetic in bf16": Operation(8_000_000_000, 1000, torch.bfloat16),
        "traffic": Operation(0, 3_000_000, torch.float32),
        "being called": Operation(0, 10, torch.float32),
    }
    seconds = {name: machine.seconds([operation]) for name, operation in bound_by.items()}
    assert list(seconds.values()) == pytest.approx([8, 2, 3, 1e-3])
    without = replace(machine, bf16_flops=None)
    assert without.seconds([bound_by["arithmetic in bf16"]]) == pytest.approx(8)
    assert machine.seconds(bound_by.values()) == pytest.approx(sum(seconds.values()))


def test_this_machine_is_measured() -> None:
    machine = this_machine()
    assert 1e8 < machine.fp32_flops < 1e15
    assert 1e8 < machine.bytes_per_second < 1e13
    assert 1e-8 < machine.operation_seconds < 1e-2


def test_a_measurement_is_kept_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    again = this_machine.__wrapped__  # as another process would
    measured = again()
    assert again() == measured
    (path,) = (tmp_path / "machines").iterdir()
    hour_ago = path.stat().st_mtime - 3601
    os.utime(path, (hour_ago, hour_ago))
    assert again() != measured
    for damaged in ("", "{", "[]", '{"name": 1}'):
        path.write_text(damaged)
        assert again().fp32_flops > 1e8
    assert again() == again()


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    assert this_machine.__wrapped__().fp32_flops > 1e8


@pytest.fixture(scope="module")
def found() -> Survey:
    words = ["task.samples={train: 64, validation: 32, test: 32}", "train.epochs=2"]
    return survey(make_config(None, {}, words), None)


def test_a_survey_compares_methods_and_machines(found: Survey) -> None:
    assert found.asked.name == "lora"
    assert [row.name for row in found.methods] == list(METHODS)
    assert [row.name for row in found.machines] == [machine.name for machine in GPUS]
    memory = {row.name: row.peak_bytes for row in found.methods}
    assert memory["full"] > memory["lora"] > memory["last_layer"]
    assert all(row.fits and row.seconds > 0 for row in found.machines)
    on = {row.name: row for row in found.machines}
    assert on["T4"].peak_bytes > on["L4"].peak_bytes  # which has no bf16, so all is in fp32
    assert (on["A100-40"].pass_tokens or 0) < (on["A100-80"].pass_tokens or 0)
    assert found.advice == "it fits"


def test_a_pass_may_be_longer_than_one_that_fits(found: Survey) -> None:
    tokens = found.asked.pass_tokens
    assert tokens is not None
    assert tokens > 8192  # where pocket takes half a GiB


TOO_MUCH = Requirement("lora", 3, 2, 1.0, 1.0, 0.0, 2.0, 0)


@pytest.mark.parametrize(
    ("asked", "method", "machine", "advice"),
    [
        (
            replace(TOO_MUCH, pass_tokens=512),
            TOO_MUCH,
            TOO_MUCH,
            "it fits with train.tokens_per_pass=512",
        ),
        (TOO_MUCH, replace(TOO_MUCH, name="ia3", room_bytes=4), TOO_MUCH, "these methods do: ia3"),
        (
            TOO_MUCH,
            TOO_MUCH,
            replace(TOO_MUCH, name="L4", room_bytes=4),
            "no method fits here.*L4 has room",
        ),
        (TOO_MUCH, TOO_MUCH, TOO_MUCH, "no method fits here"),
    ],
)
def test_what_to_do_where_it_does_not_fit(
    asked: Requirement, method: Requirement, machine: Requirement, advice: str
) -> None:
    assert re.search(advice, Survey(asked, [method], [machine]).advice)


def test_the_command_prints_tables_or_json(
    found: Survey, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*words: str) -> str:
        monkeypatch.setattr("tunewise.estimate.survey.survey", lambda config, data: found)
        monkeypatch.setattr("sys.argv", ["tunewise", "estimate", "--method", "lora", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    shown = said()
    assert "soft_prompt" in shown
    assert "H200" in shown
    assert shown.strip().endswith("it fits")
    assert "Note" not in shown
    found = replace(found, note="lengths are counted with another tokenizer")
    assert "Note: lengths are counted with another tokenizer\n" in said()
    values = json.loads(said("--json"))
    assert values["note"] == found.note
    assert set(values) == {"asked", "methods", "machines", "advice", "note"}
    assert values["asked"]["peak_bytes"] == found.asked.peak_bytes
