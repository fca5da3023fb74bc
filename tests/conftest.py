"""Fixtures that every folder of tests shares."""

from pathlib import Path

import pytest
import torch

# The models are tiny: a second thread costs more than it brings, and very much more where another
# program keeps its core busy.
torch.set_num_threads(1)

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device there is: the processor, and a GPU where there is one."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that lies beside the repository on the developers' machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder
