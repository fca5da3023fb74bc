"""The objectives, one file each. To add one, write its file and name it here."""

from tunewise.training.objectives.cross_entropy import CrossEntropy
from tunewise.training.objectives.objective import Objective

__all__ = ["CrossEntropy", "Objective"]
