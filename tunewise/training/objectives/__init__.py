"""The objectives, one file each. To add one, write its file and name it here."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from tunewise.errors import ConfigError, nearest
from tunewise.training.objectives.cross_entropy import CrossEntropy
from tunewise.training.objectives.objective import Objective

ALL: tuple[type[Objective], ...] = (CrossEntropy,)

OBJECTIVES: dict[str, type[Objective]] = {
    objective.model_fields["kind"].default: objective for objective in ALL
}
"""Each objective by its kind."""


def objective_settings(value: Any) -> Any:
    """Return an objective given by its kind alone as settings; anything else as it is.

    Raises:
        ConfigError: if the kind is not known.
    """
    value = {"kind": value} if isinstance(value, str) else value
    if isinstance(value, Mapping) and (kind := value.get("kind")) not in OBJECTIVES:
        problem = f"no objective {kind!r}" if kind else "no `kind` is given"
        raise ConfigError(f"train.objective: {problem}; {nearest(str(kind), OBJECTIVES)}")
    return value


def _of_its_kind(value: Any) -> Any:
    """Return settings as an objective of their kind; anything else as it is."""
    value = objective_settings(value)
    return OBJECTIVES[value["kind"]].model_validate(value) if isinstance(value, Mapping) else value


AnyObjective = Annotated[SerializeAsAny[Objective], BeforeValidator(_of_its_kind)]
"""One of the objectives. It is no union of them, since a union takes two at least."""

__all__ = ["OBJECTIVES", "AnyObjective", "CrossEntropy", "Objective", "objective_settings"]
