"""What runs of one process share is read once, and never taken for something else."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunewise.config import RunConfig, make_config
from tunewise.data.rows import SPLITS
from tunewise.errors import ConfigError
from tunewise.runs.memo import MAX_THINGS, Key, Shared
from tunewise.runs.prepare import Prepared, TokenizerKey, layout_of, prepare

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def config_of(model_folder: Path, rows: Path) -> MakeConfig:
    def make(*words: str) -> RunConfig:
        task = {"kind": "classification", "path": str(rows)}
        return make_config(fields={"model": str(model_folder), "task": task}, overrides=words)

    return make


def prepared(config: RunConfig, shared: Shared) -> Prepared:
    return prepare(config, None, torch.device("cpu"), shared, SPLITS)


def test_runs_that_differ_in_training_alone_share_rows_and_token_ids(config_of: MakeConfig) -> None:
    shared = Shared()
    one, other = (prepared(config_of(f"seed={n}", f"method.rank={n}"), shared) for n in (1, 2))
    for split in SPLITS:
        assert one.examples[split] is other.examples[split]
        assert one.encoded[split] is other.encoded[split]
    assert one.tokenizer is other.tokenizer


@pytest.mark.parametrize("words", [["train.max_length=9"], ["method=soft_prompt"]])
def test_another_layout_shares_rows_and_makes_its_own_sequences(
    config_of: MakeConfig, words: list[str]
) -> None:
    shared = Shared()
    one, other = prepared(config_of(), shared), prepared(config_of(*words), shared)
    assert one.examples["train"] is other.examples["train"]
    assert one.layout != other.layout
    for sequence in other.encoded["train"].sequences:
        assert len(sequence.ids) <= other.layout.max_length
        virtual_ids = other.layout.virtual_ids
        assert tuple(sequence.ids[: len(virtual_ids)]) == virtual_ids


def test_a_prefix_of_keys_and_values_takes_positions_and_no_ids(config_of: MakeConfig) -> None:
    config = config_of("method=prefix", "method.tokens=5", "train.max_length=20")
    layout = prepared(config, Shared()).layout
    assert (layout.max_length, layout.virtual_ids) == (15, ())
    with pytest.raises(ConfigError, match="6 leaves no room for text behind 5 virtual tokens"):
        prepared(config_of("method=prefix", "method.tokens=5", "train.max_length=6"), Shared())


def test_a_task_is_read_again_where_a_setting_of_it_differs(config_of: MakeConfig) -> None:
    shared = Shared()
    one, other = (prepared(config_of(f"task.samples={n}"), shared) for n in (3, 4))
    assert [len(found.examples["train"]) for found in (one, other)] == [3, 4]


def test_keys_of_two_kinds_differ_and_what_was_not_used_for_longest_goes() -> None:
    class OtherKey(TokenizerKey):
        pass

    folder, shared = Path("folder"), Shared()
    keys: list[Key[str]] = [TokenizerKey(folder), OtherKey(folder)]  # type: ignore[list-item]
    assert [shared.get(key, lambda n=n: f"{n}") for n, key in enumerate(keys)] == ["0", "1"]
    for n in range(MAX_THINGS - 1):
        shared.get(TokenizerKey(Path(f"{n}")), lambda: None)  # type: ignore[arg-type,return-value]
        assert shared.get(keys[0], lambda: "made again") == "0"
    assert shared.get(keys[1], lambda: "made again") == "made again"


def test_a_layout_of_more_than_the_model_has_is_refused(config_of: MakeConfig) -> None:
    found = prepared(config_of(), Shared())
    with pytest.raises(ConfigError, match=r"train\.max_length: 49; the model has 48 positions"):
        layout_of(config_of("train.max_length=49"), found.shape)
