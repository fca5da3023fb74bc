"""An objective that prepares its sequences is rehearsed with what it has prepared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tunewise.config import make_config
from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch
from tunewise.data.rows import SPLITS
from tunewise.estimate.work import Work, rehearse
from tunewise.models import LanguageModel
from tunewise.runs.memo import Shared
from tunewise.runs.prepare import prepare
from tunewise.training.objectives import CrossEntropy


@dataclass(frozen=True, eq=False)
class Weighed(Encoded):
    weight: float = 0.0


class Weighted(CrossEntropy):
    kind: Literal["cross_entropy"] = "cross_entropy"
    name: str = "weighted"

    def prepare(
        self, model: LanguageModel, sequences: Sequence[Encoded], tokens_per_pass: int
    ) -> list[Encoded]:
        return [
            Weighed(one.example_id, one.ids, one.prompt_length, one.label, one.states, 0.5)
            for one in sequences
        ]

    def summed_loss(
        self, model: LanguageModel, hidden: Tensor, batch: Batch, sequences: Sequence[Encoded]
    ) -> Tensor:
        weights = [one.weight for one in sequences if isinstance(one, Weighed)]
        assert len(weights) == len(sequences)
        return super().summed_loss(model, hidden, batch, sequences)


def work_of(objective: CrossEntropy) -> Work:
    config = make_config(None, {"method": "last_layer"}, ["task.samples=16", "train.epochs=1"])
    train = config.train.model_copy(update={"objective": objective})
    config = config.model_copy(update={"train": train})
    return rehearse(prepare(config, None, torch.device("cpu"), Shared(), SPLITS))


def test_the_work_of_a_prepared_update_is_counted() -> None:
    plain, weighted = work_of(CrossEntropy()), work_of(Weighted())
    assert weighted.update == plain.update
    assert weighted.peak_bytes == plain.peak_bytes
