"""tunewise: which way to fine-tune a small language model, answered with evidence."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunewise.predict import Predictor

__version__ = "0.1.0"

# oneDNN keeps a compiled kernel for every shape of a bf16 product, up to 1,024 of them, and PyTorch
# as many again. Passes of texts differ in their number of tokens, so these are kernels that are
# seldom used again: half a GiB after a hundred updates. Both are read at the first product.
for _variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, "64")


def load(name: str | Path) -> "Predictor":
    """Return a finished run by its folder, or a model by its name or folder, ready to answer."""
    from tunewise import predict  # PyTorch is imported only where it is needed

    return predict.load(name)
