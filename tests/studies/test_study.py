"""A study says what is compared, in words that a person can check."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewise.config import make_config
from tunewise.errors import ConfigError
from tunewise.methods import METHODS
from tunewise.settings import validate
from tunewise.studies.overrides import folder_name, grid, title_of
from tunewise.studies.read import read_study
from tunewise.studies.study import Study
from tunewise.studies.trials import candidates_of


def study(**fields: Any) -> Study:
    return validate(Study, {"name": "test", **fields}, "study")


def names(some: Study) -> list[str]:
    return [cell.name for cell in some.cells()]


def test_a_grid_has_every_combination_and_its_first_axis_is_slowest() -> None:
    some = study(vary={"method.rank": [2, 4], "train.epochs": [1, 3]})
    assert names(some) == [
        "rank=2, epochs=1",
        "rank=2, epochs=3",
        "rank=4, epochs=1",
        "rank=4, epochs=3",
    ]
    chosen = [(c.config.method.model_dump()["rank"], c.config.train.epochs) for c in some.cells()]
    assert chosen == [(2, 1), (2, 3), (4, 1), (4, 3)]


def test_fields_joined_by_a_comma_change_together() -> None:
    some = study(vary={"method.rank, method.alpha": [[2, 4], [8, 16]]})
    assert names(some) == ["rank=2, alpha=4", "rank=8, alpha=16"]
    assert some.axes() == ["method.rank, method.alpha"]
    assert [some.value_on(some.axes()[0], cell) for cell in some.cells()] == names(some)


def test_named_runs_are_taken_at_every_point_of_the_grid() -> None:
    some = study(
        runs=[{"name": "all", "method": "full"}, {"method": {"kind": "lora", "rank": 4}}],
        vary={"train.epochs": [1, 2]},
    )
    assert names(some) == [
        "all, epochs=1",
        "all, epochs=2",
        "lora, rank=4, epochs=1",
        "lora, rank=4, epochs=2",
    ]
    assert [cell.config.method.kind for cell in some.cells()] == ["full", "full", "lora", "lora"]
    assert some.axes() == ["run", "train.epochs"]
    assert [some.value_on("run", cell) for cell in some.cells()][::2] == ["all", "lora, rank=4"]


def test_a_study_of_one_set_up_has_one_cell() -> None:
    (cell,) = study(base={"method": "full"}).cells()
    assert cell.name == "base"
    assert cell.config.method.kind == "full"


def test_seeds_count_on_from_that_of_the_base() -> None:
    (cell,) = study(base={"seed": 7}, seeds=3).cells()
    assert [cell.with_seed(number).seed for number in range(3)] == [7, 8, 9]


def test_every_cell_gets_the_same_candidates(tmp_path: Path) -> None:
    some = study(
        vary={"method": ["full", "lora"]}, tune={"train.learning_rate": [1e-4, 1e-3, 1e-2]}
    )
    rates = [
        [trial.config.train.learning_rate for trial in candidates_of(some, cell, tmp_path)]
        for cell in some.cells()
    ]
    assert rates == [[1e-4, 1e-3, 1e-2]] * 2
    assert [trial.name for trial in candidates_of(some, some.cells()[0], tmp_path)] == [
        "learning_rate=0.0001",
        "learning_rate=0.001",
        "learning_rate=0.01",
    ]


def test_a_method_chosen_whole_replaces_that_of_the_base() -> None:
    some = study(base={"method": {"kind": "lora", "rank": 4}}, vary={"method": ["full"]})
    assert some.cells()[0].config.method.kind == "full"


def test_the_base_is_not_changed_by_its_cells() -> None:
    base = {"method": {"kind": "lora", "rank": 4}}
    some = study(base=base, vary={"method.alpha": [1, 2]})
    some.cells()
    assert some.base == {"method": {"kind": "lora", "rank": 4}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"varry": {}}, "did you mean 'vary'"),
        ({"vary": {"method.rnk": [1]}}, "study test: rnk=1: method: unknown field 'rnk'"),
        ({"vary": {"method.rank": []}}, "vary: method.rank: a list of values is needed"),
        ({"vary": {"method.rank": 4}}, "vary.method.rank"),
        ({"vary": {"method.rank, seed": [[1, 2, 3]]}}, "is not a list of 2 values"),
        ({"vary": {"task": ["sst5", "imdb"]}}, "write a study for each"),
        ({"runs": [{"name": "a"}, {"name": "a"}]}, "two cells are called 'a'"),
        ({"published": {"rank=3": {"accuracy": 1}}}, "no cell is called 'rank=3'"),
        ({"tune": {"seed": [1]}, "search": {"space": {}, "trials": 1}}, "space"),
        (
            {"tune": {"seed": [1]}, "search": {"space": {"seed": {"choices": [1]}}, "trials": 1}},
            "either `tune` or `search`",
        ),
        ({"search": {"space": {"seed": {"low": 1}}, "trials": 1}}, "`low` and `high` are needed"),
        ({"search": {"space": {"method.rank": [2, 4]}, "trials": 1}}, "write {choices: [2, 4]}"),
        (
            {"search": {"space": {"method.rank": {"choices": [2, 2.0]}}, "trials": 1}},
            "choices: 2.0 is given twice",
        ),
        ({"search": {"space": {"seed": {"low": 2, "high": 1}}, "trials": 1}}, "`low` must be"),
        ({"name": "../x"}, "name"),
        ({"seeds": 0}, "seeds"),
    ],
)
def test_a_mistake_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        study(**fields).cells()
    assert message in str(caught.value)


def test_a_run_s_folder_is_named_by_its_overrides_and_told_apart_by_its_configuration() -> None:
    first, second = study(vary={"method.rank": [2, 4]}).cells()
    name = folder_name(first.name, first.config)
    assert name.startswith("rank=2_seed=0_")
    assert name == folder_name(first.name, first.config)
    changed = study(base={"train": {"epochs": 9}}, vary={"method.rank": [2, 4]}).cells()
    assert folder_name(changed[0].name, changed[0].config) != name
    assert folder_name(second.name, second.config) != name


def test_what_is_as_by_default_does_not_change_the_name_of_a_folder() -> None:
    plain, said = (study(base=base).cells()[0] for base in ({}, {"train": {"batch_size": 8}}))
    assert folder_name("x", plain.config) == folder_name("x", said.config)
    rate = {"learning_rate": 1e-3}  # or else each method has its own
    configs = [study(base={"method": kind, "train": rate}).cells()[0].config for kind in METHODS]
    assert len({folder_name("x", config) for config in configs}) == len(METHODS)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "x_seed=0_a9264157"),
        (["train.optimizer=sgd"], "x_seed=0_bcd33eb6"),
        (["train.optimizer=sgd_momentum"], "x_seed=0_7be14b0b"),
        (["train.optimizer=adam", "train.prefix_cache=0"], "x_seed=0_0e1f3d65"),
        (["train.optimizer=adam", "train.frozen_cache=0"], "x_seed=0_0e1f3d65"),
    ],
)
def test_folders_of_earlier_versions_are_found_by_their_names(words: list[str], name: str) -> None:
    assert folder_name("x", make_config(overrides=words)) == name


@pytest.mark.parametrize("name", ["../../etc", "a/b", "<script>", "", "ä" * 500, "a\nb", ".."])
def test_no_name_leads_out_of_the_study_s_folder(name: str) -> None:
    made = folder_name(name, study().cells()[0].config)
    assert len(made.encode()) < 255
    assert Path("runs", made).resolve().parent == Path("runs").resolve()
    assert not set("/\\<>\n") & set(made)


def test_words_set_fields_for_all_cells_and_drop_the_axis_over_them(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    fields = {
        "name": "sizes",
        "base": {"task": "sst5"},
        "vary": {"model": ["gpt2", "gpt2-medium"], "method": ["full", "lora"]},
        "published": {"gpt2, full": {"accuracy": 0.5}, "gpt2-medium, lora": {"accuracy": 0.6}},
    }
    file.write_text(yaml.safe_dump(fields, sort_keys=False))
    whole = read_study(file)
    assert names(whole) == ["gpt2, full", "gpt2, lora", "gpt2-medium, full", "gpt2-medium, lora"]
    small = read_study(file, ["model=pocket", "task.samples=50", "seeds=2", "train.epochs=1"])
    assert names(small) == ["full", "lora"]
    assert small.seeds == 2
    assert small.published == {}
    for cell in small.cells():
        assert (cell.config.model, cell.config.task.name) == ("pocket", "sst5")
        assert (cell.config.task.samples, cell.config.train.epochs) == (50, 1)
    other = read_study(file, ["vary.method=[last_layer]", "tune.train.learning_rate=[1e-3, 1e-2]"])
    assert names(other) == ["gpt2, last_layer", "gpt2-medium, last_layer"]
    assert other.tune == {"train.learning_rate": [1e-3, 1e-2]}


def test_a_word_also_replaces_what_a_named_run_says(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    runs = [{"name": "large", "model": "gpt2-large"}, {"name": "small", "model": "gpt2"}]
    file.write_text(yaml.safe_dump({"name": "sizes", "runs": runs}))
    small = read_study(file, ["model=pocket"])
    assert names(small) == ["large", "small"]
    assert {cell.config.model for cell in small.cells()} == {"pocket"}


def test_published_figures_go_where_their_model_or_task_goes(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    published = {"rank=2": {"accuracy": 0.5}}
    fields = {"name": "ranks", "vary": {"method.rank": [2]}, "published": published}
    file.write_text(yaml.safe_dump(fields))
    assert read_study(file, ["train.epochs=1"]).published == published
    assert read_study(file, ["model=gpt2"]).published == {}


def test_a_grid_of_nothing_has_one_point() -> None:
    assert grid({}) == [{}]


def test_titles_are_short_and_tell_values_apart() -> None:
    assert title_of({"method.blocks": [0, 1], "train.learning_rate": 1e-5}) == (
        "blocks=0+1, learning_rate=1e-05"
    )
    assert title_of({"method": {"kind": "lora", "rank": 4}}) == "lora, rank=4"
    assert title_of({"model": "/models/gpt2"}) == "gpt2"
