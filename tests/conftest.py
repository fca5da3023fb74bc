"""Fixtures that every folder of tests shares."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import byte_tokenizer, save_tiny, write_splits

from tunewise.data.tokenizer import Tokenizer
from tunewise.runs.result import Estimate

# The models are tiny: a second thread costs more than it brings, and very much more where another
# program keeps its core busy.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start: sums depend on it
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device there is: the processor, and a GPU where there is one."""
    return torch.device(request.param)


@pytest.fixture(autouse=True, scope="module")
def freeze_imports() -> None:
    """Take what is imported out of garbage collection.

    Each run collects garbage before it measures memory, which takes longer than a tiny run if the
    objects of every library are looked at.
    """
    gc.collect()
    gc.freeze()


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
    return byte_tokenizer()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A model of two tiny blocks in Hugging Face layout, with fresh weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return save_tiny(folder, tokenizer=tokenizer, noise=0.0, seed=0, num_layers=2, mlp_dim=32)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve rows per split, with texts, labels, instructions and outputs."""

    def rows_of(split: str) -> list[dict[str, str]]:
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
        return lines

    return write_splits(tmp_path_factory.mktemp("rows"), rows_of)
