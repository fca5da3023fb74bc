"""The label layer of a folder: its labels, and a model whose layer over labels begins with it."""

import logging
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunewise.errors import ModelError
from tunewise.models.folder import build_model, load_model, read_config
from tunewise.models.language_model import LanguageModel
from tunewise.models.tensors import HEAD, find_tensors, read_label_layer
from tunewise.models.weights import LABEL_HEAD, opened, read_json

logger = logging.getLogger(__name__)

GENERIC = re.compile(r"LABEL_(\d+)")
"""The names that transformers gives to labels that have none."""
MAX_SHOWN = 10
"""Most labels that a message names."""


def stored_labels(folder: Path) -> tuple[str, ...] | None:
    """Return the names of the labels of a folder's label layer, by row; None if it has none.

    Raises:
        ModelError: if its names do not go with its rows, or its answers are not one label per text.
    """
    stored = find_tensors(folder, build_model(read_config(folder))).get(LABEL_HEAD)
    values = read_json(folder / "config.json")
    if stored is None:
        _tell_if_promised(values, folder)
        return None
    with opened(stored.path) as file:
        num_rows = file.get_slice(stored.key).get_shape()[0]
    problem = values.get("problem_type") or "single_label_classification"
    if problem != "single_label_classification" or num_rows < 2:
        kind = "regression" if num_rows < 2 else problem
        raise ModelError(
            f"{folder}: its label layer is one of {num_rows} for {kind}; "
            "only one label per text, of two or more, is supported"
        )
    labels = _names_of(values, num_rows, folder / "config.json")
    if len(set(labels)) < num_rows:
        raise ModelError(f"{folder / 'config.json'}: id2label names two labels alike")
    return labels


def _tell_if_promised(values: Mapping[str, Any], folder: Path) -> None:
    """Warn if a config.json says that the model is a classifier, and its weights are of none."""
    names = values.get("architectures")
    for name in names if isinstance(names, list) else []:
        if str(name).endswith("ForSequenceClassification"):
            logger.warning(
                "%s: config.json says that it is a %s, and its weights have no label layer (%s)",
                folder,
                name,
                LABEL_HEAD,
            )


def _names_of(values: Mapping[str, Any], num_rows: int, path: Path) -> tuple[str, ...]:
    """Return the names that a config.json gives to the rows of a label layer.

    They are in `id2label`; if that has transformers' own names alone, `label2id` may have better.
    """
    rows = [str(row) for row in range(num_rows)]
    names = values.get("id2label") or {row: f"LABEL_{row}" for row in rows}
    if not isinstance(names, dict) or set(names) != set(rows):
        numbers = ", ".join(map(str, names)) if isinstance(names, (dict, list)) else repr(names)
        raise ModelError(
            f"{path}: id2label names the labels {numbers}; {LABEL_HEAD!r} has rows 0 to "
            f"{num_rows - 1}"
        )
    labels = tuple(str(names[row]) for row in rows)
    turned = values.get("label2id")
    numbered = {str(row): name for name, row in turned.items()} if isinstance(turned, dict) else {}
    others = tuple(numbered.get(row, label) for row, label in zip(rows, labels, strict=True))
    if others == labels:
        return labels
    if all(map(GENERIC.fullmatch, labels)):
        return others
    logger.warning("%s: label2id says other than id2label, which is used", path)
    return labels


def load_classifier(
    folder: Path, labels: Mapping[str, str], generator: torch.Generator
) -> LanguageModel:
    """Return the model of a folder with an output layer over the labels of a task.

    If the folder has a label layer over the same labels, it is that one, its rows in the order of
    the task's labels; otherwise a fresh one. The same numbers are drawn in both cases.

    Args:
        labels: each label as it is in the rows, and its name.

    Raises:
        ModelError: if the weights cannot be read.
    """
    model = load_model(folder, head=False)  # first, since damage is an error whatever the labels
    model.use_label_head(len(labels), generator)
    rows = _rows_for(folder, labels)
    if rows is not None:
        read_label_layer(model, folder)
        model.head.weight = nn.Parameter(model.dense(HEAD).detach()[rows].float())
    return model


def _rows_for(folder: Path, labels: Mapping[str, str]) -> list[int] | None:
    """Return the row of each label in a folder's label layer; None, and say why, if it has none."""
    ours = listed(labels.values())
    try:
        stored = stored_labels(folder)
    except ModelError as error:
        logger.warning("%s; a new label layer begins, over %s", error, ours)
        return None
    if stored is None:
        return None
    rows = rows_of(stored, labels)
    if rows is not None:
        logger.info("%s: its label layer is used, over %s", folder, ours)
        return rows
    if len(stored) == len(labels) and all(map(GENERIC.fullmatch, stored)):
        logger.warning(
            "%s: the labels of its label layer have no names; they are taken in the order of the "
            "task's: %s are %s",
            folder,
            listed(stored),
            ours,
        )
        return list(range(len(stored)))
    logger.warning(
        "%s: its label layer is left out, since its labels are %s; a new one begins, over %s%s",
        folder,
        listed(stored),
        ours,
        "; task.labels can name the labels of the rows as those"
        if len(stored) == len(labels)
        else "",
    )
    return None


def rows_of(stored: Sequence[str], labels: Mapping[str, str]) -> list[int] | None:
    """Return the row of each of a task's labels among the labels of a folder; None if they differ.

    A label is known by its name or by what the rows of data hold, in any case and with any spaces;
    a name of transformers' own, LABEL_1, is the label 1.
    """
    forms: tuple[Callable[[str], str], ...] = (str, _simple, _number)
    for form in forms:
        for ours in (list(labels.values()), list(labels)):
            wanted, there = [form(name) for name in ours], [form(name) for name in stored]
            if sorted(wanted) == sorted(there) and len(set(there)) == len(there):
                return [there.index(name) for name in wanted]
    return None


def listed(labels: Collection[str]) -> str:
    """Return the names of labels for a message, of many the first few."""
    shown = ", ".join(repr(label) for label in list(labels)[:MAX_SHOWN])
    return f"{shown} and {len(labels) - MAX_SHOWN} more" if len(labels) > MAX_SHOWN else shown


def _simple(name: str) -> str:
    """Return a name without what nobody means by it: case, spaces, the form of its accents."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _number(name: str) -> str:
    """Return the number in a name of transformers' own."""
    generic = GENERIC.fullmatch(name)
    return generic[1] if generic else name
