"""A run is given more epochs and ends as one that had them from the start, or says why not."""

from pathlib import Path

import pytest

from tunewise.errors import ConfigError
from tunewise.predict import load
from tunewise.run import run
from tunewise.runs.folder import CHECKPOINT_FOLDER, CONFIG_FILE, METRICS_FILE, read_lines
from tunewise.training.loop import Step

from .conftest import Configured, StopAt, Stopped, left

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

CONSTANT = ["train.schedule=constant", "train.warmup=0"]
"""With 12 rows and batches of 5, an epoch has 3 updates."""

EXACT = [
    (CONSTANT, 2, "train.epochs=3"),
    ([*CONSTANT, "train.epochs=0"], None, "train.epochs=2"),
    ([*CONSTANT, "train.early_stopping.patience=9"], None, "train.epochs=3"),
    ([*CONSTANT, "train.evaluate_every=2"], None, "train.epochs=4"),
    (
        [*CONSTANT, "train.dropout=0.2", "method=full", "train.checkpoint_every=null"],
        None,
        "train.epochs=3",
    ),
    ([*CONSTANT, "train.epochs=4"], 5, "train.epochs=2"),
    (["train.schedule=constant", "train.warmup=0.34"], 4, "train.epochs=3 train.warmup=0.222222"),
    (["train.schedule=constant", "train.warmup=0.34"], None, "train.epochs=3 train.warmup=0.22"),
    (["train.schedule=linear", "train.warmup=0.5"], 3, "train.epochs=6 train.warmup=0.166667"),
]


@pytest.mark.parametrize(("words", "stopped_at", "longer"), EXACT)
def test_a_lengthened_run_is_one_of_that_length_bit_for_bit(
    words: list[str], stopped_at: int | None, longer: str, configured: Configured, tmp_path: Path
) -> None:
    """Stopped at an update, or finished."""
    words = ["train.epochs=2", "train.checkpoint_every=1", *words]
    whole = run(configured(*words, *longer.split()), out=tmp_path / "whole")
    try:
        progress = None if stopped_at is None else StopAt(stopped_at)
        run(configured(*words), out=tmp_path / "parts", progress=progress)
    except Stopped:
        pass
    config = configured(*words, *longer.split())
    parts = run(config, out=tmp_path / "parts", resume=True)
    mine, other = left(parts), left(whole)
    for found in (mine, other):  # what is kept of a finished run of each length
        for path in [path for path in found if path.startswith(CHECKPOINT_FOLDER)]:
            del found[path]
    assert mine == other
    assert (parts.folder / CONFIG_FILE).read_text() == (whole.folder / CONFIG_FILE).read_text()
    assert len(list(parts.folder.glob("config_of_*_epochs.yaml"))) == 1
    assert len(list(parts.folder.glob("result_of_*_epochs.json"))) == (stopped_at is None)


REFUSED = [
    (
        ["train.schedule=cosine"],
        3,
        ["train.epochs=4"],
        "train.schedule=cosine the rate falls until",
    ),
    (["train.schedule=linear"], 3, ["train.epochs=4"], "such as train.schedule=constant, or begin"),
    (["train.schedule=cosine"], 3, ["train.epochs=1"], "the rate falls until"),
    (
        ["train.schedule=constant", "train.warmup=0.34"],
        3,
        ["train.epochs=4"],
        "its rate rose during 2 updates, and would during 4 of this length, so that the updates it "
        "has made would be others; add train.warmup=0.166667, with which they stay the same",
    ),
    (CONSTANT, 6, ["train.epochs=1"], "it has made 5 updates, and 3 would be all"),
    ([], None, ["train.epochs=4"], "it has finished, and its checkpoints were deleted then"),
    (
        [
            *CONSTANT,
            "train.epochs=9",
            "train.early_stopping.patience=1",
            "train.learning_rate=1e-9",
        ],
        None,
        ["train.epochs=20"],
        "it stopped early, after update",
    ),
    (CONSTANT, 3, ["train.epochs=4", "method.rank=2"], "method.rank 8, and this has 2"),
    (CONSTANT, 3, ["train.schedule=cosine"], "train.schedule 'constant', and this has 'cosine'"),
    (CONSTANT, 3, ["train.epochs=4", "train.batch_size=4"], "with train.batch_size 5, and this"),
    (CONSTANT, 3, ["train.epochs=4", "seed=9"], "was started with seed 0, and this has 9"),
]


@pytest.mark.parametrize(("words", "stopped_at", "longer", "problem"), REFUSED)
def test_a_run_that_cannot_be_lengthened_says_why_and_is_left_as_it_was(
    words: list[str],
    stopped_at: int | None,
    longer: list[str],
    problem: str,
    configured: Configured,
    tmp_path: Path,
) -> None:
    words = ["train.epochs=2", "train.checkpoint_every=1", *words]
    try:
        progress = None if stopped_at is None else StopAt(stopped_at)
        run(configured(*words), out=tmp_path / "run", progress=progress)
    except Stopped:
        pass
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError) as caught:
        run(configured(*words, *longer), out=tmp_path / "run", resume=True)
    assert problem in str(caught.value)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in after} == {path.name for path in before}
    assert after == before


def test_another_schedule_is_for_the_updates_that_are_left_and_that_is_said(
    configured: Configured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cosine = ["train.epochs=2", "train.checkpoint_every=1", "train.schedule=cosine"]
    with pytest.raises(Stopped):
        run(configured(*cosine), out=tmp_path / "run", progress=StopAt(4))
    made = rates(tmp_path / "run")[:3]
    longer = ["train.epochs=3", "train.checkpoint_every=1", *CONSTANT]
    record = run(configured(*longer), out=tmp_path / "run", resume=True)
    assert rates(record.folder) == [*made, *[0.01] * 6]
    assert len(set(made)) > 1
    assert "the rates of updates 1 to 3 were those of train.schedule=cosine over 6" in caplog.text
    assert (record.folder / "config_of_2_epochs.yaml").is_file()


def rates(folder: Path) -> list[float]:
    lines = read_lines(folder / METRICS_FILE)
    return [line.learning_rate for line in lines if isinstance(line, Step)]


@pytest.mark.parametrize(
    ("words", "num_kept"),
    [
        (CONSTANT, 1),
        (["train.schedule=cosine"], 0),
        ([*CONSTANT, "train.epochs=0"], 0),
    ],
)
def test_a_finished_run_keeps_a_checkpoint_only_where_it_can_be_lengthened_exactly(
    words: list[str], num_kept: int, configured: Configured, tmp_path: Path
) -> None:
    record = run(configured("train.epochs=1", *words), out=tmp_path / "run")
    assert len(list((record.folder / CHECKPOINT_FOLDER).glob("*"))) == num_kept


def test_a_large_checkpoint_is_not_kept(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewise.runs.lengthen.MOST_KEPT", 1000)
    record = run(configured("train.epochs=1", *CONSTANT), out=tmp_path / "run")
    assert not (record.folder / CHECKPOINT_FOLDER).exists()


def test_a_lengthened_run_that_is_stopped_is_resumed(
    configured: Configured, tmp_path: Path
) -> None:
    words = ["train.checkpoint_every=1", *CONSTANT]
    whole = run(configured(*words, "train.epochs=4"), out=tmp_path / "whole")
    run(configured(*words, "train.epochs=2"), out=tmp_path / "parts")
    longer = configured(*words, "train.epochs=4")
    with pytest.raises(Stopped):
        run(longer, out=tmp_path / "parts", progress=StopAt(8), resume=True)
    with pytest.raises(ConfigError, match="the run has not finished"):
        load(tmp_path / "parts")  # its weights are those of the former length
    parts = run(longer, out=tmp_path / "parts", resume=True)
    assert left(parts)["result"] == left(whole)["result"]
