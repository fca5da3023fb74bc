"""Before its first run a study has read its rows, and knows that cells are tested on the same."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import write_splits

from tunewise.data.rows import SPLITS
from tunewise.errors import ConfigError, DataError
from tunewise.runs.folder import ORIGIN_FILE, RESULT_FILE
from tunewise.runs.memo import Shared
from tunewise.studies import runner
from tunewise.studies.check import check_rows
from tunewise.studies.runner import open_folder, run_study
from tunewise.studies.study import Study
from tunewise.studies.trials import RUNS_FOLDER, seeds_of

from .conftest import MakeStudy, RunStudy

Rows = list[dict[str, Any]]
MakeRows = Callable[..., Path]


def lines(split: str) -> Rows:
    return [
        {"text": f"{split} {n}", "label": ["good", "bad"][n % 2], "note": f"note {n}"}
        for n in range(8)
    ]


@pytest.fixture
def make_rows(tmp_path: Path) -> MakeRows:
    """Return a function that writes rows, those of some splits changed."""

    def write(name: str, **changes: Callable[[Rows], Rows]) -> Path:
        return write_splits(
            tmp_path / name, lambda split: changes.get(split, lambda rows: rows)(lines(split))
        )

    return write


def with_cell(number: int, column: str, value: Any) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        rows[number][column] = value
        return rows

    return change


def check(study: Study, tmp_path: Path) -> None:
    check_rows(study, tmp_path / "study", None, Shared())


# Cells are tested on the same rows.

OTHER_ROWS: list[tuple[dict[str, Any], str]] = [
    (
        {"test": with_cell(2, "text", "another film")},
        'column \'text\' of test.jsonl:3 holds "test 2" and "another film"',
    ),
    (
        {"test": with_cell(2, "text", f"another {'very ' * 20}long film")},
        'holds "test 2" and "another very very very very very very v...y very long film"',
    ),
    ({"test": with_cell(7, "label", "good")}, "column 'label' of test.jsonl:8 holds"),
    ({"test": lambda rows: rows[:-1]}, "8 rows and 7"),
    ({"test": lambda rows: rows[::-1]}, "column 'text' of test.jsonl:1 holds"),
    ({"test": with_cell(0, "more", 1)}, "column 'more' of test.jsonl:1 holds nothing and 1"),
]


@pytest.mark.parametrize(("changes", "problem"), OTHER_ROWS)
@pytest.mark.parametrize("part", ["vary", "runs", "tune", "search"])
def test_tasks_of_other_test_rows_are_refused_however_the_study_comes_to_them(
    make_study: MakeStudy,
    make_rows: MakeRows,
    tmp_path: Path,
    part: str,
    changes: Mapping[str, Any],
    problem: str,
) -> None:
    paths = [str(make_rows("a")), str(make_rows("b", **changes))]
    study = make_study(
        **{
            "vary": {"vary": {"task.path": paths}},
            "runs": {"runs": [{"name": path[-1], "task.path": path} for path in paths]},
            "tune": {"tune": {"task.path": paths}},
            "search": {"search": {"space": {"task.path": {"choices": paths}}, "trials": 2}},
        }[part]
    )
    with pytest.raises(ConfigError) as caught:
        check(study, tmp_path)
    assert problem in str(caught.value)
    if part in ("vary", "runs"):
        names = [cell.name for cell in study.cells()]
        assert f"cells {names[0]!r} and {names[1]!r} would be tested on" in str(caught.value)


SAME_ROWS: list[dict[str, Any]] = [
    {"vary": {"task.samples": [{"train": 4}, {"train": 6}]}},
    {"vary": {"task.lowercase": [True, False]}},
    {"vary": {"task.template": ["{text}", "{note}: {text}", "Is this good? {text*} Answer:"]}},
    {"vary": {"task.train_size": [0.5, 0.8]}},
    {"vary": {"task.max_length": [8, 16]}},
    {"tune": {"task.samples": [{"train": 4}, {"train": 6}]}},
    {"search": {"space": {"task.samples.train": {"low": 2, "high": 6}}, "trials": 3}},
    {"vary": {"method": ["lora", "full"]}, "tune": {"train.epochs": [1, 2]}},
]


@pytest.mark.parametrize("fields", SAME_ROWS)
def test_what_is_made_of_the_same_rows_may_be_compared(
    make_study: MakeStudy, make_rows: MakeRows, tmp_path: Path, fields: dict[str, Any]
) -> None:
    base = make_study().base
    base["task"] = {"kind": "classification", "path": str(make_rows("a"))}
    check(make_study(base=base, **fields), tmp_path)


def test_other_training_rows_may_be_compared(
    make_study: MakeStudy, make_rows: MakeRows, tmp_path: Path
) -> None:
    few = make_rows("b", train=lambda rows: rows[:4])
    check(make_study(vary={"task.path": [str(make_rows("a")), str(few)]}), tmp_path)


OTHER_QUESTIONS: list[tuple[dict[str, Any], str]] = [
    ({"vary": {"task.samples": [4, 6]}}, "4 rows and 6"),
    ({"vary": {"task.samples": [{"test": 4}, {"test": 6}]}}, "4 rows and 6"),
    ({"vary": {"task.sample_seed": [0, 1]}}, "test.jsonl"),
    ({"vary": {"task.label": ["label", "sort"]}}, "the answer to test.jsonl:1 is 'good' and 'new'"),
    ({"tune": {"task.train_size": [0.5, 0.8]}}, "candidates of cell 'base' would be chosen by"),
    (
        {"search": {"space": {"task.train_size": {"low": 0.5, "high": 0.8}}, "trials": 2}},
        "candidates of cell 'base' would be chosen by different rows",
    ),
]


@pytest.mark.parametrize(("fields", "problem"), OTHER_QUESTIONS)
def test_settings_that_choose_other_rows_or_answers_are_refused(
    make_study: MakeStudy,
    make_rows: MakeRows,
    tmp_path: Path,
    fields: dict[str, Any],
    problem: str,
) -> None:
    def sorts(rows: Rows) -> Rows:
        return [row | {"sort": ["new", "old"][n % 2]} for n, row in enumerate(rows)]

    path = make_rows("a", train=sorts, validation=sorts, test=sorts)
    base = make_study().base
    base["task"] = {"kind": "classification", "path": str(path)}
    base["task"] |= {"samples": 6} if "sample_seed" in str(fields) else {}
    with pytest.raises(ConfigError) as caught:
        check(make_study(base=base, **fields), tmp_path)
    assert problem in str(caught.value)


def test_held_out_rows_of_single_files_are_compared_too(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    for name, word in (("a", "film"), ("b", "book")):
        rows = [{"text": f"{word} {n}", "label": n % 2} for n in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    with pytest.raises(ConfigError, match=r"stand in one place|column 'text'"):
        check(make_study(vary={"task.path": paths}), tmp_path)


# Rows are read before the first run.

MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no file": (lambda path: (path / "test.jsonl").unlink(), "test"),
    "no folder": (lambda path: path.rename(path.with_name("gone")), "no such file or folder"),
    "no column": (lambda path: (path / "train.jsonl").write_text('{"text": "a"}\n'), "'label'"),
    "no JSON": (lambda path: (path / "validation.jsonl").write_text("{\n"), "validation.jsonl:1"),
}


@pytest.mark.parametrize(("damage", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_data_that_cannot_be_used_end_a_study_before_any_run(
    make_study: MakeStudy,
    make_rows: MakeRows,
    tmp_path: Path,
    damage: Callable[[Path], Any],
    problem: str,
) -> None:
    bad = make_rows("b")
    damage(bad)
    study = make_study(vary={"task.path": [str(make_rows("a")), str(bad)]})
    folder = tmp_path / "study"
    open_folder(folder, resume=False)
    with pytest.raises(DataError, match=r"study tiny: path=.*b: ") as caught:
        run_study(study, folder, None, 1, lambda event: None)
    assert problem in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_candidate_that_cannot_be_is_named_before_any_run(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    for part in (
        {"tune": {"method.rnk": [1]}},
        {"search": {"space": {"method.rnk": {"low": 1, "high": 2}}, "trials": 1}},
        {"search": {"space": {"train.warmup": {"low": 0.1, "high": 2.0}}, "trials": 1}},
    ):
        with pytest.raises(ConfigError, match=r"unknown field 'rnk'|train\.warmup"):
            check(make_study(**part), tmp_path)


# A study that is resumed.


@pytest.fixture
def named_rows(tmp_path: Path) -> Path:
    """Return a data folder with the rows of sst5."""
    write_splits(
        tmp_path / "data" / "sst5",
        lambda s: [{"text": f"{s} {n}", "label": n % 5} for n in range(10)],
    )
    return tmp_path / "data"


def of_sst5(make_study: MakeStudy, **fields: Any) -> Study:
    base = make_study().base | {"task": "sst5"}
    return make_study(base=base | {"train": base["train"] | {"epochs": 1}}, **fields)


@pytest.mark.slow
def test_a_study_is_resumed_with_the_data_that_it_was_started_with(
    make_study: MakeStudy, named_rows: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    run_study(of_sst5(make_study), folder, named_rows, 1, lambda event: None)
    assert json.loads((folder / ORIGIN_FILE).read_text())["data"] == str(named_rows)
    more = of_sst5(make_study, seeds=2)
    assert run_study(more, folder, None, 1, lambda event: None) == []
    assert len(list((folder / RUNS_FOLDER).glob(f"*/{RESULT_FILE}"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_rows_that_changed_since_a_run_began_end_the_study_unless_all_is_done(
    make_study: MakeStudy, named_rows: Path, tmp_path: Path, split: str
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    study = of_sst5(make_study)
    run_study(study, folder, named_rows, 1, lambda event: None)
    file = named_rows / "sst5" / f"{split}.jsonl"
    text = file.read_text()
    file.write_text(text.replace(f"{split} 3", "another text"))
    more = of_sst5(make_study, seeds=2)
    with pytest.raises(ConfigError, match=f"the {split} rows are not those that .*seed=0"):
        run_study(more, folder, None, 1, lambda event: None)
    assert run_study(study, folder, None, 1, lambda event: None) == []
    file.write_text(text)
    assert run_study(more, folder, None, 1, lambda event: None) == []


@pytest.mark.slow
def test_a_study_s_runs_keep_no_checkpoint(
    make_study: MakeStudy, go: RunStudy, tmp_path: Path
) -> None:
    base = make_study().base
    base["train"] |= {"schedule": "constant", "checkpoint_every": 1}
    study = make_study(base=base)
    go(study)
    (trial,) = seeds_of(study, study.cells()[0], tmp_path / "study")
    assert not (trial.folder / runner.CHECKPOINT_FOLDER).exists()
