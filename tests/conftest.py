"""Fixtures that every folder of tests shares."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import models, pre_tokenizers

from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer, byte_level
from tunewise.models.folder import build_model, save_model
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.language_model import initialise
from tunewise.runs.result import Estimate

# The models are tiny: a second thread costs more than it brings, and very much more where another
# program keeps its core busy.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start: sums depend on it

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device there is: the processor, and a GPU where there is one."""
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """Leave what is logged as it was: commands of the terminal set it for their whole process."""
    logger = logging.getLogger("tunewise")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs on the processor, with few resamples and no rehearsal before them."""
    monkeypatch.setattr("tunewise.metrics.metric.NUM_RESAMPLES", 20)
    monkeypatch.setattr("tunewise.run.choose_device", lambda: torch.device("cpu"))
    expected = Estimate(**dict.fromkeys(Estimate.model_fields, 0))
    monkeypatch.setattr("tunewise.run.estimate_run", lambda *_: expected)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that lies beside the repository on the developers' machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


WORDS = ["good", "bad", "fine", "awful"]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A tokenizer with one token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([END_OF_TEXT, *alphabet])}
    backend = byte_level(models.BPE(vocabulary, []))
    backend.add_special_tokens([END_OF_TEXT])
    return Tokenizer(backend)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A model of two tiny blocks in Hugging Face layout, with random weights."""
    shape = GPT2Config(
        vocabulary_size=257, context_length=48, model_dim=16, num_heads=2, num_layers=2, mlp_dim=32
    )
    model = build_model(shape, "cpu")
    initialise(model, torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, folder, tokenizer.end_of_text)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve rows per split, with texts, labels, instructions and outputs."""
    folder = tmp_path_factory.mktemp("rows")
    for split in SPLITS:
        lines = [
            {
                "text": f"{split} {n}: a {word} film",
                "label": "good" if n % 2 == 0 else "bad",
                "instruction": f"{n}",
                "output": f" {word}",
            }
            for n, word in enumerate(WORDS * 3)
        ]
        lines[3]["text"] = "much too long, " * 5
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
