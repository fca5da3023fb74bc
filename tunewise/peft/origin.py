"""The model and the labels that an adapter was made for, as far as its configuration tells."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from tunewise.peft.config import PeftType, names_in, read_adapter_config
from tunewise.peft.names import ADAPTER_CONFIG_FILE, LABEL_LAYER, base_model_name

logger = logging.getLogger(__name__)


def say_origin(folder: Path, peft_type: PeftType, model: str, labels: Sequence[str] | None) -> None:
    """Warn if an adapter seems to be another model's, and tell the order of its labels.

    Shapes are checked elsewhere. Two models of one shape are told apart by their names alone.

    Args:
        model: the name of the run's model.
        labels: the names of the labels, if the model has a label layer.
    """
    config = read_adapter_config(folder, peft_type)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if isinstance(base, str) and base:
        there, here = base_model_name(base), base_model_name(model)
        if _last_part(there) != _last_part(here):
            logger.warning(
                "%s: the adapter was made for %s; this run's model is %s. Their shapes agree, but "
                "with other weights below it an adapter is not what was trained",
                folder,
                there,
                here,
            )
        elif there != here:
            logger.info("%s: made for %s, which is taken for %s", folder, there, here)
    if revision not in (None, "main"):
        logger.warning("%s: made for revision %s of %s", folder, revision, base)
    if labels:
        saved = names_in(config, "modules_to_save", folder / ADAPTER_CONFIG_FILE)
        logger.info(
            "%s: the rows of its label layer are taken to be %s: PEFT keeps no names"
            if LABEL_LAYER in saved
            else "%s: has no label layer, so a new one over %s begins",
            folder,
            ", ".join(labels),
        )


def _last_part(name: str) -> str:
    """Return the name of a model without its owner on the hub, or without its parent folders."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1].casefold()
