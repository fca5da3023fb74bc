"""tunewise: which way to fine-tune a small language model, answered with evidence."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunewise.predict import Predictor

__version__ = "0.1.0"


def load(name: str | Path) -> "Predictor":
    """Return a finished run by its folder, or a model by its name or folder, ready to answer."""
    from tunewise import predict  # PyTorch is imported only where it is needed

    return predict.load(name)
