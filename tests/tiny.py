"""Small things that many tests are made of."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, pack


def batch_of(*sequences: Sequence[int] | Tensor) -> Batch:
    """Return sequences of token ids as one batch, in which every token but a first is scored."""
    arrays = [np.asarray(ids, dtype=np.int32) for ids in sequences]
    encoded = [Encoded(str(number), ids, 1) for number, ids in enumerate(arrays)]
    (batch,) = pack(encoded, tokens_per_pass=sum(map(len, arrays)))
    return batch
