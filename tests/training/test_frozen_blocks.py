"""What frozen blocks make of the tokens is the same, whether computed or read."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import METHOD_SETTINGS, draw_weights, every_family, tiny_config
from torch.testing import assert_close

from tunewise import models
from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, pack
from tunewise.evaluation.evaluate import score_sequences
from tunewise.methods import METHODS, Method
from tunewise.methods.last_blocks import LastBlocks
from tunewise.methods.last_layer import LastLayer
from tunewise.methods.lora import LoRA
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model
from tunewise.training.config import TrainConfig
from tunewise.training.frozen_blocks import GIB, with_frozen_states
from tunewise.training.loop import train

SIZES = {"vocabulary_size": 50, "context_length": 32}
WITH_DEPTH: dict[str, tuple[Method, int]] = {
    "last_layer": (LastLayer(), 4),
    "last_blocks": (LastBlocks(blocks=1), 2),
    "lora on the last block": (LoRA(blocks="last-1"), 2),
    "lora on some blocks": (LoRA(blocks=(1,)), 1),
    "dora from pissa on the last block": (LoRA(blocks="last-1", dora=True, init="pissa"), 2),
    "lora on the output layer": (LoRA(targets=("head",)), 4),
}
"""Methods that leave first blocks frozen, and how many; the final norm is one more."""
WITHOUT_DEPTH = {
    kind: method(**METHOD_SETTINGS.get(kind, {}))
    for kind, method in METHODS.items()
    if kind not in WITH_DEPTH
}
"""Every other method: a new one is here unless it is named above."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prefix"


def new_model(
    method: Method, num_labels: int | None = None, family: str = "gpt2", seed: int = 0
) -> LanguageModel:
    model = build_model(tiny_config(family, **SIZES), "cpu")
    generator = torch.Generator().manual_seed(seed)
    draw_weights(model, 0.2, generator)
    if num_labels is not None:
        model.use_label_head(num_labels, generator)
    method.adapt(model, generator)
    return model


def sequences_of(num_labels: int | None = None) -> list[Encoded]:
    chance = np.random.default_rng(0)
    lengths = chance.integers(2, 20, size=23)
    ids = [chance.integers(0, 50, size=length).astype(np.int32) for length in lengths]
    if num_labels is None:
        return [Encoded(f"r:{n}", some, 1) for n, some in enumerate(ids)]
    return [Encoded(f"r:{n}", some, len(some), n % num_labels) for n, some in enumerate(ids)]


def kept(model: LanguageModel, sequences: Sequence[Encoded], limit: float = 1.0) -> list[Encoded]:
    return with_frozen_states(model, {"train": sequences}, tokens_per_pass=64, limit=limit)["train"]


def hidden(model: LanguageModel, batch: Batch) -> torch.Tensor:
    return model.hidden(batch)


@every_family
@pytest.mark.parametrize("name", WITH_DEPTH)
def test_the_hidden_states_are_those_computed_anew(name: str, family: str) -> None:
    method, depth = WITH_DEPTH[name]
    model = new_model(method, family=family).eval()
    sequences = sequences_of()
    assert model.frozen_depth == depth
    batches = zip(pack(sequences, 100), pack(kept(model, sequences), 100), strict=True)
    for anew, read in batches:
        assert read.states is not None
        assert torch.equal(anew.targets, read.targets)
        assert_close(hidden(model, anew), hidden(model, read), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WITHOUT_DEPTH)
def test_nothing_is_kept_where_the_first_block_or_what_goes_into_it_is_trained(
    name: str, cache: Path
) -> None:
    model = new_model(WITHOUT_DEPTH[name])
    assert model.frozen_depth == 0
    assert all(sequence.states is None for sequence in kept(model, sequences_of()))
    assert not cache.exists()


def test_nothing_is_kept_where_dropout_makes_it_differ() -> None:
    model = new_model(LastLayer())
    model.set_dropout(0.1)
    assert all(sequence.states is None for sequence in kept(model, sequences_of()))


@pytest.mark.parametrize("num_labels", [None, 3])
@pytest.mark.parametrize("name", [n for n in WITH_DEPTH if "output" not in n])
def test_training_and_scores_do_not_depend_on_it(name: str, num_labels: int | None) -> None:
    config = TrainConfig(epochs=2, batch_size=5, tokens_per_pass=40, learning_rate=1e-2)
    results = []
    for limit in (0.0, 1.0, 1.0):  # computed each time, computed once, read
        model = new_model(WITH_DEPTH[name][0], num_labels)
        sequences = kept(model, sequences_of(num_labels), limit)
        steps = list(train(model, sequences, config, seed=0))
        scores = score_sequences(model, sequences, tokens_per_pass=40)
        losses = torch.tensor([step.loss for step in steps])
        likelihoods = torch.tensor([score.log_likelihood for score in scores])
        assert [step.num_tokens for step in steps][:1] == [
            sum(len(sequences[index].ids) for index in _first_update(len(sequences)))
        ]
        results.append((losses, likelihoods))
    for losses, likelihoods in results[1:]:
        assert_close(losses, results[0][0], rtol=1e-5, atol=1e-5)
        assert_close(likelihoods, results[0][1], rtol=1e-4, atol=1e-4)
    assert torch.equal(results[1][0], results[2][0])
    assert torch.equal(results[1][1], results[2][1])


def _first_update(num_sequences: int) -> list[int]:
    from tunewise.training.loop import epoch_order

    return epoch_order(num_sequences, epoch=0, seed=0)[:5]


def test_a_classifier_on_frozen_blocks_keeps_one_vector_per_example(cache: Path) -> None:
    model = new_model(LastLayer(), num_labels=3)
    sequences = kept(model, sequences_of(num_labels=3))
    assert {
        tuple(sequence.states.shape) for sequence in sequences if sequence.states is not None
    } == {(1, 16)}
    assert [file.stat().st_size for file in cache.iterdir()] == [len(sequences) * 16 * 4]


def test_a_later_run_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept(new_model(LastBlocks(blocks=1)), sequences_of())
    monkeypatch.setattr(LanguageModel, "frozen_states", None)
    second = kept(new_model(LoRA(blocks="last-1")), sequences_of())  # the same depth
    for one, other in zip(first, second, strict=True):
        assert one.states is not None and other.states is not None
        assert torch.equal(one.states, other.states)


@pytest.mark.parametrize("change", ["weights", "tokens", "order", "depth", "labels", "precision"])
def test_whatever_decides_the_output_makes_a_file_of_its_own(change: str, cache: Path) -> None:
    kept(new_model(LastLayer()), sequences_of())
    model = new_model(LastBlocks(blocks=1) if change == "depth" else LastLayer())
    sequences = sequences_of(3 if change == "labels" else None)
    if change == "weights":
        with torch.no_grad():
            model.get_parameter("final_norm.bias")[0] += 1e-3
    if change == "tokens":
        ids = sequences[0].ids.copy()
        ids[0] = (ids[0] + 1) % 50
        sequences[0] = replace(sequences[0], ids=ids)
    if change == "order":
        sequences = sequences[::-1]
    if change == "precision":
        model.set_precision(torch.bfloat16)
    kept(model, sequences)
    assert len(list(cache.iterdir())) == 2


def test_other_code_makes_a_file_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "models"
    shutil.copytree(Path(models.__file__).parent, copy)
    for changed in (False, True):
        if changed:
            (copy / "layers.py").write_text("# another way to round\n", "utf-8")
        monkeypatch.setattr(models, "__file__", str(copy / "__init__.py"))
        kept(new_model(LastLayer()), sequences_of())
    assert len(list(cache.iterdir())) == 2


def test_what_would_not_fit_is_computed_each_time_and_said(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        sequences = kept(new_model(LastLayer()), sequences_of(), limit=100 / GIB)
    assert all(sequence.states is None for sequence in sequences)
    assert "train.frozen_cache" in caplog.text
    assert not cache.exists()


def test_what_was_not_used_for_longest_makes_room(cache: Path) -> None:
    model, sequences = new_model(LastLayer()), sequences_of()
    size = sum(len(sequence.ids) for sequence in sequences) * 16 * 4
    for seed in range(4):
        kept(new_model(LastLayer(), seed=seed), sequences, limit=2.5 * size / GIB)
        assert len(list(cache.iterdir())) <= 2
    before = {file.name for file in cache.iterdir()}
    kept(new_model(LastLayer(), seed=3), sequences, limit=2.5 * size / GIB)
    assert {file.name for file in cache.iterdir()} == before
    kept(model, sequences, limit=2.5 * size / GIB)
    assert len({file.name for file in cache.iterdir()} & before) == 1


def test_a_file_that_is_cut_short_is_written_anew(cache: Path) -> None:
    model, sequences = new_model(LastLayer()), sequences_of()
    first = [
        sequence.states.clone()
        for sequence in kept(model, sequences)
        if sequence.states is not None
    ]
    path = next(cache.iterdir())
    path.write_bytes(path.read_bytes()[:100])
    for one, other in zip(first, kept(model, sequences), strict=True):
        assert other.states is not None and torch.equal(one, other.states)


def test_a_folder_that_cannot_be_written_only_costs_time(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be", "utf-8")
    sequences = kept(new_model(LastLayer()), sequences_of())
    assert all(sequence.states is None for sequence in sequences)
    assert "not kept" in caplog.text


def test_a_write_that_fails_leaves_no_part_behind(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(LanguageModel, "frozen_states", fails)
    sequences = kept(new_model(LastLayer()), sequences_of())
    assert all(sequence.states is None for sequence in sequences)
    assert list(cache.iterdir()) == []
