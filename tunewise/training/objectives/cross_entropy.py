"""Cross-entropy: the objective of fine-tuning on texts and labels."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, Unit
from tunewise.models import LanguageModel
from tunewise.models.fast.loss import summed_loss
from tunewise.training.objectives.objective import Objective


class CrossEntropy(Objective):
    """The mean of -log p(target) over the scored tokens of an update, which all count alike."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    def count(self, units: Sequence[Unit]) -> int:
        """Return the number of scored tokens."""
        return sum(sequence.num_scored for unit in units for sequence in unit)

    def summed_loss(
        self, model: LanguageModel, hidden: Tensor, batch: Batch, sequences: Sequence[Encoded]
    ) -> Tensor:
        """Return the sum of -log p(target) over the scored positions of a pass."""
        return summed_loss(model, hidden, batch.targets[batch.scored])
