"""Tests of the commands that list known names and count parameters without weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunewise.methods import METHODS
from tunewise.metrics import METRICS
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.tasks.named import task_names
from tunewise.training.objectives import OBJECTIVES

from .conftest import Tunewise

KNOWN: dict[str, list[str]] = {
    "models": list(KNOWN_MODELS),
    "tasks": task_names(),
    "methods": list(METHODS),
    "metrics": list(METRICS),
    "objectives": list(OBJECTIVES),
}


@pytest.mark.parametrize("what", KNOWN)
def test_everything_known_is_listed_one_to_a_line(tunewise: Tunewise, what: str) -> None:
    answer = tunewise("list", what)
    assert answer.code == 0
    firsts = [line.split()[0] for line in answer.out.splitlines() if line.strip()]
    for name in KNOWN[what]:
        assert firsts.count(name) == 1, name


@pytest.mark.parametrize("what", KNOWN)
def test_a_list_can_be_had_as_json(tunewise: Tunewise, what: str) -> None:
    rows = json.loads(tunewise("list", what, "--json").out)
    column = what.removesuffix("s")
    assert [row[column] for row in rows][: len(KNOWN[what])] == KNOWN[what]
    assert all(row.keys() == rows[0].keys() for row in rows)


def listed(tunewise: Tunewise, what: str, *words: str | Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a list by what they name."""
    rows = json.loads(tunewise("list", what, *words, "--json").out)
    return {row[what.removesuffix("s")]: row for row in rows}


def test_the_keys_of_earlier_versions_are_still_in_the_json(tunewise: Tunewise) -> None:
    model, method = listed(tunewise, "models")["gpt2"], listed(tunewise, "methods")["lora"]
    task = listed(tunewise, "tasks")["mrpc"]
    assert model["from"] == model["source"]
    assert method["learning rate"] == method["learning_rate"]
    assert task["train / validation / test"] == task["rows"]


def test_the_list_of_tasks_counts_the_rows_that_are_in_the_data_folder(
    tunewise: Tunewise, data: Path
) -> None:
    there, nowhere = listed(tunewise, "tasks", "--data", data), listed(tunewise, "tasks")
    assert there["sst5"]["rows"] == "10 / 10 / 10"
    assert nowhere["sst5"]["rows"] == "on the hub: SetFit/sst5"
    assert "no file for the test split" in there["sick"]["rows"]
    assert nowhere["sick"]["rows"] == "not in the data folder"
    for rows in (there, nowhere):
        assert rows["pocket_reviews"]["rows"] == "2,000 / 500 / 500"
        assert rows["imdb"]["rows"] == "on the hub: stanfordnlp/imdb"
        assert rows["mrpc"]["columns"] == "sentence1, sentence2, label"


def counts(tunewise: Tunewise, *words: str | Path) -> dict[str, Any]:
    answer = tunewise("params", *words, "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_params_counts_without_reading_weights(tunewise: Tunewise) -> None:
    # GPT-2: V·D + T·D + 12 · (12·D² + 13·D) + 2·D with D = 768; two factors of rank 8 per layer
    total = (50257 + 1024) * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    found = counts(tunewise, "--model", "gpt2", "--method", "full")
    assert (found["total"], found["trainable"], found["percent"]) == (total, total, 100.0)
    lora = 12 * 8 * (2 * 768)
    found = counts(tunewise, "--model", "gpt2", "method.targets=[query]")
    assert (found["total"], found["trainable"]) == (total + lora, lora)
    assert found["percent"] == pytest.approx(100 * lora / (total + lora))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", METHODS)
def test_params_agrees_with_what_a_run_counts(
    tunewise: Tunewise,
    run_words: list[str | Path],
    model_folder: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    words = [word for word in run_words if word != "method.rank=2"]
    assert tunewise(*words, "--method", kind).code == 0
    ran = json.loads((tmp_path / "out" / "result.json").read_text())["parameters"]
    model = ("--model", model_folder, "--task", "sst5", "--method", kind)
    assert counts(tunewise, *model) == ran


def test_params_without_json_shows_the_same_numbers(tunewise: Tunewise, model_folder: Path) -> None:
    found = counts(tunewise, "--model", model_folder)
    shown = tunewise("params", "--model", model_folder).out
    assert f"{found['total']:,}" in shown
    assert f"{found['trainable']:,}" in shown
