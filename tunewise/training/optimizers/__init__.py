"""The optimizers, one file each. To add one, write its file and name it here."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tunewise.errors import ConfigError, nearest
from tunewise.settings import union_by_kind
from tunewise.training.optimizers.adam import Adam, AdamW
from tunewise.training.optimizers.optimizer import Optimizer, UpdateRule, build_optimizer
from tunewise.training.optimizers.sgd import SGD

OneOf = AdamW | Adam | SGD

OPTIMIZERS: dict[str, type[UpdateRule]] = union_by_kind(OneOf)
NAMES: dict[str, dict[str, Any]] = {
    name: {"kind": kind, **settings}
    for kind, rule in OPTIMIZERS.items()
    for name, settings in rule.names.items()
}
"""The settings that each bare name stands for."""


def optimizer_settings(value: Any) -> Any:
    """Return an optimizer given by its bare name as the settings it stands for.

    Anything else is returned as it is.

    Raises:
        ConfigError: if the name or kind is not known.
    """
    if isinstance(value, str) and value in NAMES:
        return dict(NAMES[value])
    kind = value.get("kind") if isinstance(value, Mapping) else value
    if isinstance(value, str | Mapping) and kind not in OPTIMIZERS:
        problem = f"no optimizer {kind!r}" if kind else "no `kind` is given"
        raise ConfigError(f"train.optimizer: {problem}; {nearest(str(kind), NAMES)}")
    return value


AnyOptimizer = Annotated[
    Annotated[OneOf, Field(discriminator="kind")], BeforeValidator(optimizer_settings)
]

__all__ = [
    "NAMES",
    "OPTIMIZERS",
    "AnyOptimizer",
    "Optimizer",
    "UpdateRule",
    "build_optimizer",
    "optimizer_settings",
]
