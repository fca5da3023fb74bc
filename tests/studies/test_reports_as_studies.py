"""Laws of studies/: the tables of the reports, as studies that can be run."""

import shlex
from pathlib import Path

import pytest

from tunewise.metrics import METRICS
from tunewise.models.folder import shape_of
from tunewise.runs.parameters import count_parameters
from tunewise.runs.prepare import max_sequence_length
from tunewise.studies.read import read_study
from tunewise.studies.runner import open_folder, run_study
from tunewise.studies.study import Cell, Study
from tunewise.studies.trials import candidates_of, seeds_of
from tunewise.tasks import Classification

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "studies"
FILES = sorted(FOLDER.glob("*.yaml"))
COSTS = {"trainable", "peak_gb", "epoch_minutes"}
"""Published figures that are no metrics."""
JUDGE = "judge"

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each `tunewise study` that a text shows, in comments or not."""
    lines = "\n".join(line.removeprefix("#").strip() for line in text.splitlines())
    shown = lines.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[2:] for line in shown if line.startswith("tunewise study ")]


def asked_for(arguments: list[str]) -> Study:
    """Return the study that a command names, with its `key=value` words set."""
    words = [word for word in arguments[1:] if "=" in word and not word.startswith("--")]
    return read_study(ROOT / arguments[0], words)


def rehearsal(name: str) -> Study:
    """Return the study of a file as its comment rehearses it."""
    shown = commands((FOLDER / f"{name}.yaml").read_text("utf-8"))
    (arguments,) = [arguments for arguments in shown if "model=pocket" in arguments]
    return asked_for(arguments)


def trainable(cell: Cell) -> int:
    """Return how many parameters a cell trains; two labels stand in where only rows name them."""
    task = cell.config.task
    if isinstance(task, Classification) and task.labels is None:
        task = task.model_copy(update={"labels": {"0": "no", "1": "yes"}})
    return count_parameters(cell.config, task).trainable


def test_there_is_a_study_of_every_report() -> None:
    assert {path.stem[:3] for path in FILES} == {"000", "001", "002", "003", "004", "lor", "poc"}


@every_file
def test_a_study_is_called_as_its_file_and_says_what_it_asks_and_where_it_is_from(
    path: Path,
) -> None:
    study = read_study(path)
    assert study.name == path.stem
    assert study.description.endswith("?")
    assert study.source.startswith(f"report {path.stem[:3]}, ") == bool(study.published)
    assert path.read_text("utf-8").startswith("# ")
    assert f"[{path.name}]({path.name})" in (FOLDER / "README.md").read_text("utf-8")


@every_file
def test_every_command_shown_can_be_planned_and_every_model_built(
    path: Path, tmp_path: Path
) -> None:
    shown = commands(path.read_text("utf-8"))
    assert len(shown) >= 2
    for arguments in shown:
        assert arguments[0] == f"studies/{path.name}"
        study = asked_for(arguments)
        for cell in study.cells():
            assert len(candidates_of(study, cell, tmp_path)) == len(study.candidates())
            assert trainable(cell) > 0
            assert max_sequence_length(cell.config, shape_of(cell.config.model)) > 0


@every_file
def test_a_published_figure_is_of_a_metric_that_the_task_has_and_in_its_scale(path: Path) -> None:
    study = read_study(path)
    cells = {cell.name: cell for cell in study.cells()}
    for name, figures in study.published.items():
        task = cells[name].config.task
        for metric, value in figures.items():
            if metric == JUDGE:
                assert task.answer_kind.writes_text
                assert 1 < value <= 100
            elif metric in COSTS:
                assert value > 0
            else:
                assert metric in task.metrics
                low, high = METRICS[metric].bounds
                assert low < value < high


def test_the_trained_parameters_of_the_reports_come_out_to_the_last_digit() -> None:
    published: list[int] = []
    for study in map(read_study, FILES):
        for cell in study.cells():
            figures = study.published.get(cell.name, {})
            if "trainable" in figures:
                assert trainable(cell) == figures["trainable"], f"{study.name}: {cell.name}"
                published.append(int(figures["trainable"]))
    medium, large = 1024, 1280
    lora = [(medium, 24, rank) for rank in (2, 4, 8, 16, 32)]
    lora += [(medium, blocks, 16) for blocks in (18, 20, 22)]
    lora += [(large, 36, rank) for rank in (8, 16, 32)]
    # rank · (in + out) for each layer of a block, 4 · 2D + 2 · 5D, and for the output layer.
    by_hand = {rank * (blocks * 18 * dim + dim + 50257) for dim, blocks, rank in lora}
    assert set(published) == by_hand | {50257 * 768, 12 * 768}


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name",
    ["003_last_layer_or_full_sst5", "003_rank_sonnets", "004_methods_cnn_dailymail"],
)
def test_a_rehearsal_finishes_every_cell(name: str, tmp_path: Path, shared_data: Path) -> None:
    study = rehearsal(name)
    cells = study.cells()
    if not (rows := shared_data / cells[0].config.task.name).is_dir():
        pytest.skip(f"no {rows}")
    open_folder(folder := tmp_path / "study", resume=False)

    failed = run_study(study, folder, shared_data, 1, lambda event: None)

    assert failed == []
    for cell in cells:
        (trial,) = seeds_of(study, cell, folder)
        assert trial.status == "finished"


def test_the_commands_of_the_readme_can_be_planned() -> None:
    shown = commands((FOLDER / "README.md").read_text("utf-8"))
    assert shown
    for arguments in shown:
        assert asked_for(arguments).cells()
