"""A cell's configuration has what each part of the study says, or the study is refused."""

import copy
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewise.config import RunConfig, set_field
from tunewise.errors import ConfigError
from tunewise.settings import validate
from tunewise.studies.read import read_study
from tunewise.studies.study import Study


def study(**fields: Any) -> Study:
    return validate(Study, {"name": "test", **fields}, "study")


EPOCHS = {"train.epochs": [1, 3]}
SPACE = {"space": {"train.epochs": {"low": 1, "high": 3}}, "trials": 2}

TWICE: list[tuple[dict[str, Any], str]] = [
    (
        {"vary": EPOCHS, "tune": EPOCHS},
        "study: train.epochs is set by `vary` and again by `tune`; set each field in one place",
    ),
    ({"vary": EPOCHS, "search": SPACE}, "train.epochs is set by `vary` and again by `search`"),
    (
        {"runs": [{"name": "epochs=1", "train.epochs": 1}], "vary": {"train.epochs": [3]}},
        "train.epochs is set by `runs` ('epochs=1') and again by `vary`",
    ),
    (
        {"runs": [{"name": "a"}, {"train.epochs": 1}], "tune": EPOCHS},
        "train.epochs is set by `runs` and again by `tune`",
    ),
    ({"runs": [{"train.epochs": 1}], "vary": {"train.epochs": [1]}}, "again by `vary`"),
    (
        {"vary": {"train.epochs, train.warmup": [[1, 0.1]], "train.warmup": [0.2]}},
        "train.warmup is set by `vary` and again by `vary`",
    ),
    ({"vary": {"train.epochs, train.epochs": [[1, 2]]}}, "train.epochs is set by `vary` and again"),
    ({"runs": [{"fields": {"train.epochs": 1}, "train.epochs": 2}]}, "train.epochs is given twice"),
    # A whole value takes the place of a field that was set inside it.
    (
        {"vary": {"method.rank": [2, 4]}, "tune": {"method": ["lora", "full"]}},
        "`tune` sets method, which would overwrite method.rank, set by `vary`",
    ),
    ({"runs": [{"train.warmup": 0}], "vary": {"train": [{"epochs": 1}]}}, "overwrite train.warmup"),
    (
        {"vary": {"method.rank": [2, 4], "method": ["lora", "full"]}},
        "`vary`: method would overwrite method.rank; put method first",
    ),
    ({"runs": [{"method.rank": 2, "method": "lora"}]}, "put method first"),
    # A field may be set inside a whole value only where that value leaves it open.
    (
        {"runs": [{"method": {"kind": "lora", "rank": 4}}], "vary": {"method.rank": [2]}},
        "`vary` sets method.rank, which would overwrite method.rank (in method), set by `runs`",
    ),
    ({"vary": {"method": ["lora"]}, "tune": {"method.kind": ["full"]}}, "method.kind"),
    ({"vary": {"task": ["sst5"]}, "tune": {"task.name": ["other"]}}, "task.name"),
    (
        {"vary": {"train.optimizer": ["sgd_momentum"]}, "tune": {"train.optimizer.momentum": [0]}},
        "train.optimizer.momentum (in train.optimizer)",
    ),
    ({"vary": {"train.objective": ["cross_entropy"], "train.objective.kind": ["x"]}}, "objective"),
    (
        {
            "runs": [{"train.early_stopping": None}],
            "vary": {"train.early_stopping.patience": [1]},
        },
        "overwrite train.early_stopping, set by `runs`",
    ),
    ({"vary": {"task.samples": [9]}, "tune": {"task.samples": [{"train": 5}]}}, "task.samples"),
    # One field may have two names.
    (
        {"vary": {"train.frozen_cache": [0, 1]}, "tune": {"train.prefix_cache": [0, 1]}},
        "train.frozen_cache is set by `vary` and again by `tune` (as train.prefix_cache)",
    ),
    ({"vary": {"train": [{"prefix_cache": 0}], "train.frozen_cache": [1]}}, "train.frozen_cache"),
    # Values.
    ({"vary": {"method.rank": [4, 8, 4]}}, "vary: method.rank: 4 is given twice"),
    ({"tune": {"train.warmup": [0, 0.1, 0.0]}}, "tune: train.warmup: 0.0 is given twice"),
    # Seeds.
    ({"vary": {"seed": [1, 2]}, "seeds": 2}, "seed is set by `vary`, and `seeds` is 2"),
    ({"runs": [{"name": "a", "seed": 1}], "seeds": 3}, "seed is set by `runs` ('a'), and `seeds`"),
    ({"tune": {"seed": [1, 2]}}, "`tune` sets seed: a seed is nothing to be tuned"),
    (
        {"search": {"space": {"seed": {"low": 1, "high": 9}}, "trials": 1}},
        "`search` sets seed: a seed is nothing to be tuned",
    ),
]


@pytest.mark.parametrize(("fields", "message"), TWICE)
def test_what_a_part_would_overwrite_is_refused_by_name(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        study(**fields)
    assert message in str(caught.value)


ONCE: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"runs": [{"method": "lora"}, {"method": "full"}], "vary": EPOCHS},
        ["lora, epochs=1", "lora, epochs=3", "full, epochs=1", "full, epochs=3"],
    ),
    ({"vary": {"method": ["lora"], "method.rank": [2]}}, ["lora, rank=2"]),
    (
        {"runs": [{"method": {"kind": "lora", "rank": 4}}], "tune": {"method.alpha": [2]}},
        ["lora, rank=4"],
    ),
    ({"runs": [{"train": {"epochs": 1}}], "vary": {"train.warmup": [0]}}, ["epochs=1, warmup=0"]),
    ({"base": {"method": {"kind": "lora", "rank": 4}}, "vary": {"method.rank": [2]}}, ["rank=2"]),
    ({"base": {"method": {"kind": "lora", "rank": 4}}, "vary": {"method": ["full"]}}, ["full"]),
    ({"runs": [{"task": "sst5"}], "vary": {"task.lowercase": [True]}}, ["sst5, lowercase=True"]),
    ({"runs": [{"train.epochs": 1}, {"train.epochs": 2}]}, ["epochs=1", "epochs=2"]),
    ({"vary": {"seed": [1, 2]}}, ["seed=1", "seed=2"]),
    ({"vary": {"task.lowercase": [True, False]}}, ["lowercase=True", "lowercase=False"]),
]


@pytest.mark.parametrize(("fields", "names"), ONCE)
def test_what_a_part_leaves_open_another_may_set(fields: dict[str, Any], names: list[str]) -> None:
    assert [cell.name for cell in study(**fields).cells()] == names


# No value can be found in two places, so that an overwritten one is missing.
VALUES: dict[str, list[Any]] = {
    "model": ["gpt2", "pocket"],
    "method": ["lora", {"kind": "lora", "rank": 4}, {"kind": "lora", "alpha": 2.0}, "full"],
    "method.rank": [2, 3],
    "method.alpha": [5.0, 6.0],
    "task": ["sst5", {"name": "sst5", "samples": 5}],
    "task.samples": [6, {"train": 7}],
    "task.samples.train": [8, 9],
    "task.lowercase": [True],
    "train": [{"epochs": 1}, {"epochs": 2, "warmup": 0.0}, {"prefix_cache": 3.0}],
    "train.epochs": [4, 5],
    "train.warmup": [0.1, 0.2],
    "train.frozen_cache": [1.0],
    "train.prefix_cache": [2.0],
    "train.optimizer": ["sgd_momentum", "adam", {"kind": "sgd"}],
    "train.optimizer.kind": ["adamw"],
    "train.optimizer.momentum": [0.4],
    "train.early_stopping": [None, {"patience": 3}],
    "train.early_stopping.patience": [4, 5],
}


def some_part(chance: random.Random) -> dict[str, Any]:
    paths = chance.sample(list(VALUES), chance.choice([0, 1, 1, 2]))
    return {path: chance.choice(VALUES[path]) for path in paths}


def holds(settings: Any, path: str, value: Any) -> bool:
    """Return whether settings, or plain values, have this value at this path."""
    for step in path.split("."):
        step = "frozen_cache" if step == "prefix_cache" else step
        is_plain = isinstance(settings, Mapping)
        settings = settings.get(step, "missing") if is_plain else getattr(settings, step, None)
    if isinstance(value, Mapping):
        return settings is not None and all(holds(settings, k, v) for k, v in value.items())
    if isinstance(value, str) and not isinstance(settings, str) and settings is not None:
        if value == "sgd_momentum":
            return holds(settings, "kind", "sgd") and holds(settings, "momentum", 0.9)
        return holds(settings, "name" if path == "task" else "kind", value)
    return bool(settings == value)


def is_lost(parts: list[dict[str, Any]]) -> bool:
    """Return whether a value is missing once all parts have been set, one after the other."""
    values: dict[str, Any] = {}
    said = [item for part in parts for item in part.items()]
    for path, value in said:
        set_field(values, path.split("."), copy.deepcopy(value))
    paths = [path.replace("prefix", "frozen") for path, _ in said]
    return len(set(paths)) < len(paths) or not all(holds(values, *item) for item in said)


def test_no_configuration_differs_from_what_a_part_says_and_nothing_else_is_refused() -> None:
    chance, outcomes = random.Random(0), {"accepted": 0, "refused": 0}
    for _ in range(800):
        parts = [some_part(chance) for _ in range(3)]
        runs, vary, tune = parts
        fields = {
            "runs": [runs],
            "vary": {path: [value] for path, value in vary.items()},
            "tune": {path: [value] for path, value in tune.items()},
        }
        try:
            some = study(**fields)
        except ConfigError:
            try:
                assert is_lost(parts), fields
            except ConfigError as error:  # a field inside a value that has none
                assert "has no fields" in str(error), fields
            outcomes["refused"] += 1
            continue
        for config in _configs(some):
            for part in parts:
                for path, value in part.items():
                    assert holds(config, path, value), fields
            outcomes["accepted"] += 1
    assert min(outcomes.values()) > 100, outcomes


def _configs(some: Study) -> list[RunConfig]:
    """Return every configuration that a study runs; none if a method lacks a field, say."""
    try:
        return [
            some.config(cell.name, cell.overrides, overrides)
            for cell in some.cells()
            for overrides in some.candidates() or [{}]
        ]
    except ConfigError:
        return []


# Words of the command line.


def read(tmp_path: Path, words: list[str], **fields: Any) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"name": "test", **fields}, sort_keys=False))
    return read_study(path, words)


def test_what_a_word_drops_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fields: dict[str, Any] = {
        "runs": [{"name": "long", "train.epochs": 9}, {"name": "short"}],
        "vary": {"method.rank, method.alpha": [[2, 2], [4, 4]], "train.warmup": [0, 0.1]},
        "search": {"space": {"train.prefix_cache": {"low": 1, "high": 2}}, "trials": 1},
    }
    words = ["train.epochs=1", "method.rank=8", "train.frozen_cache=0"]
    some = read(tmp_path, words, **fields)
    assert [cell.name for cell in some.cells()] == [
        f"{name}, warmup={warmup}" for name in ("long", "short") for warmup in ("0", "0.1")
    ]
    assert some.search is None
    for cell in some.cells():
        assert all(holds(cell.config, "method.rank", 8) for cell in some.cells())
        assert (cell.config.train.epochs, cell.config.train.frozen_cache) == (1, 0)
    assert (
        "set for all cells: train.epochs, method.rank, train.frozen_cache; dropped: "
        "train.epochs of run 'long', vary.method.rank, method.alpha, search.train.prefix_cache"
    ) in caplog.text
    assert "cells 'long, warmup=0' and 'short, warmup=0' have the same config" in caplog.text


@pytest.mark.parametrize(
    ("words", "fields", "message"),
    [
        (
            ["method.rank=8"],
            {"vary": {"method": ["lora", "full"]}},
            "`vary` sets method, which would overwrite method.rank, set by the word method.rank",
        ),
        (["train.warmup=0"], {"runs": [{"train": {"epochs": 1}}]}, "overwrite train.warmup"),
        (["train={epochs: 1}"], {"vary": EPOCHS}, "train.epochs (in train)"),
        (["seeds=2"], {"vary": {"seed": [1, 2]}}, "seed is set by `vary`, and `seeds` is 2"),
        (["tune.train.epochs=[1, 2]"], {"vary": EPOCHS}, "again by `tune`"),
    ],
)
def test_a_word_that_would_not_hold_for_all_cells_is_refused(
    tmp_path: Path, words: list[str], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=r"study\.yaml: ") as caught:
        read(tmp_path, words, **fields)
    assert message in str(caught.value)


def test_a_word_that_drops_nothing_is_not_remarked_upon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    read(tmp_path, ["model=gpt2", "train.warmup=0", "seeds=2"], vary=EPOCHS)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("vary", "dropped"),
    [
        ({"method": ["lora", "full"]}, "method.rank, method.dropout"),
        ({"method": [{"kind": "lora", "rank": 2}, "full"]}, "method.dropout"),
        ({"method": ["full", {"kind": "bitfit"}]}, ""),
        ({"method": [{"kind": "lora", "rank": 2, "dropout": 0.1}]}, ""),
        ({"method.rank": [2, 4]}, ""),
        ({"train.optimizer": ["sgd"]}, ""),
        ({"train": [{"epochs": 1}]}, "train.batch_size"),
    ],
)
def test_what_a_whole_value_leaves_out_of_the_base_is_named(
    vary: dict[str, Any], dropped: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = {"kind": "lora", "rank": 4, "dropout": 0.1}
    base = {"method": method, "train": {"batch_size": 4}}
    read(tmp_path, [], base=base, vary=vary)
    said = [message for message in caplog.messages if "of base is not used" in message]
    assert [message.split(" of base")[0] for message in said] == (
        [f"{tmp_path / 'study.yaml'}: {dropped}"] if dropped else []
    )
