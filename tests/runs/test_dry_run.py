"""What a dry run shows is what a run would train on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import save_tiny, write_splits

from tunewise.config import RunConfig, make_config
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer
from tunewise.errors import ConfigError, DataError
from tunewise.models.folder import read_config
from tunewise.runs.dry_run import NUM_SHOWN, Shown, dry_run
from tunewise.runs.prepare import layout_of

CONTEXT = 64
ROWS = [
    {"text": "short", "label": 0},
    {"text": "naïve 🎬, \n two lines and {braces}", "label": 1},
    {"text": "much too long, " * 9, "label": 1},
    {"text": "", "label": 1},
]
KINDS: dict[str, dict[str, Any]] = {
    "classification": {"template": "{text*}\nLabel:"},
    "cloze": {"template": "{text*} Good?", "verbalizers": {"0": " no", "1": " yes"}},
    "generation": {"template": "{text}", "completion": " label {label_text}"},
    "instruction": {"instruction": "text", "output": "label_text", "without_input": "{text}\nA:"},
    "language_modeling": {},
    "summarization": {"template": "{text}\nTL;DR:", "summary": " {label_text}"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return save_tiny(folder, tokenizer=tokenizer, context_length=CONTEXT, num_layers=1)


@pytest.fixture
def config_of(model_folder: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    def make(kind: str, *words: str, rows: list[dict[str, Any]] = ROWS) -> RunConfig:
        write_splits(tmp_path, [row | {"label_text": f"is {row['label']}"} for row in rows])
        task = {"kind": kind, "path": str(tmp_path)} | KINDS[kind]
        return make_config(fields={"model": str(model_folder), "task": task}, overrides=words)

    return make


def scored(shown: Shown) -> str:
    return "".join(piece.text for piece in shown.pieces if piece.scored)


@every_kind
@pytest.mark.parametrize("method", ["lora", "soft_prompt"])
def test_the_pieces_are_the_tokens_of_the_run_and_the_scored_ones_its_targets(
    config_of: Callable[..., RunConfig],
    model_folder: Path,
    tokenizer: Tokenizer,
    kind: str,
    method: str,
) -> None:
    config = config_of(kind, f"method={method}")
    shown, _ = dry_run(config, None)
    examples = config.task.examples("train")
    layout = layout_of(config, read_config(model_folder))
    encoded = config.task.encode(examples, tokenizer, layout)
    prefix = len(layout.virtual_ids)
    assert len(shown) == min(NUM_SHOWN, len(encoded.sequences))
    for one, sequence in zip(shown, encoded.sequences, strict=False):
        assert one.id == sequence.example_id
        text = "".join(piece.text for piece in one.pieces)
        virtual = f"[{prefix} virtual tokens]" if prefix else ""
        assert text == virtual + tokenizer.decode(sequence.ids[prefix:].tolist())
        for before, after in zip(one.pieces, one.pieces[1:], strict=False):
            assert before.scored != after.scored
        if sequence.label is not None:
            assert not scored(one)
            assert one.label == examples[0].choices[sequence.label]
        else:
            targets = sequence.ids[max(1, sequence.prompt_length) :].tolist()
            assert scored(one) == tokenizer.decode(targets)
            assert one.label == ""


def test_what_fits_is_shown_as_it_stands_in_the_rows(config_of: Callable[..., RunConfig]) -> None:
    shown, _ = dry_run(config_of("summarization"), None)
    pieces = [(piece.text, piece.scored) for piece in shown[1].pieces]
    given, wanted = ROWS[1]["text"] + "\nTL;DR:", " is 1" + END_OF_TEXT
    assert pieces == [(given, False), (wanted, True)]


def test_lengths_are_those_of_the_sequences(config_of: Callable[..., RunConfig]) -> None:
    words = ["a" * length for length in (3, 9, 12, 20, 90, 91)]
    rows = [{"text": text, "label": number % 2} for number, text in enumerate(words)]
    config = config_of("classification", "task.template=null", "train.max_length=32", rows=rows)
    _, lengths = dry_run(config, None)
    expected = [3, 9, 12, 20, 32, 32]
    for split in SPLITS:
        found = lengths[split]
        assert found.examples == 6
        assert found.median == 16
        assert found.most == np.quantile(expected, 0.95)
        assert found.longest == 32
        assert found.truncated == pytest.approx(2 / 6)
        assert found.labels == {"0": 3, "1": 3}


@every_kind
def test_labels_are_counted_the_most_frequent_first_where_there_are_any(
    config_of: Callable[..., RunConfig], kind: str
) -> None:
    _, lengths = dry_run(config_of(kind), None)
    expected = {"classification": [("1", 3), ("0", 1)], "cloze": [("yes", 3), ("no", 1)]}
    for split in SPLITS:
        assert list(lengths[split].labels.items()) == expected.get(kind, [])


@every_kind
def test_nothing_is_trained_and_nothing_is_left(
    config_of: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was read")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tunewise.runs.model.load_model", refuse)
    config = config_of(kind)
    before, chance = sorted(tmp_path.rglob("*")), torch.get_rng_state()
    dry_run(config, None)
    assert sorted(tmp_path.rglob("*")) == before
    assert torch.equal(torch.get_rng_state(), chance)


def test_what_a_run_would_refuse_a_dry_run_refuses(config_of: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match=r"train\.max_length: 65; the model has 64"):
        dry_run(config_of("generation", "train.max_length=65"), None)
    with pytest.raises(DataError, match=r"train\.jsonl:1: no column 'stars'"):
        dry_run(config_of("classification", "task.label=stars"), None)
    with pytest.raises(ConfigError, match=r"method\.blocks: the last 3 .* has 1"):
        dry_run(config_of("classification", "method.blocks=last-3"), None)
    with pytest.raises(ConfigError, match=r"max_length: 64 leaves no room .* 64 virtual"):
        dry_run(config_of("cloze", "method=soft_prompt", "method.tokens=64"), None)
