"""A study from its file, with the changes that the words of a command make."""

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewise.config import parse_word, read_yaml, set_field
from tunewise.errors import ConfigError, first_of
from tunewise.settings import validate
from tunewise.studies.overrides import paths_of
from tunewise.studies.set_once import Field, Setting, field_of, left_out, refuse_overwritten
from tunewise.studies.study import Study

logger = logging.getLogger(__name__)


def read_study(path: Path, words: Sequence[str] = ()) -> Study:
    """Return the study in a YAML file, with the changes that `key=value` words make.

    A word sets a field of the study (`seeds=1`), or one of the configuration for all cells
    (`model=pocket`); what the study says of that field is dropped, and that is logged. So are cells
    that have the same configuration, and fields of `base` that a whole value leaves out.

    Raises:
        ConfigError: one line that names the file and the field.
    """
    values = read_yaml(path)
    fixed: list[tuple[str, Any]] = []
    for word in words:
        keys, value = parse_word(word)
        if keys[0] in ("vary", "tune") and len(keys) > 1:
            set_field(values, [keys[0], ".".join(keys[1:])], value)
        elif keys[0] in Study.model_fields:
            set_field(values, keys, value)
        else:
            fixed.append((".".join(keys), value))
    study = validate(Study, values, str(path))
    if words:
        study = _fix_fields(study, fixed, str(path))
    _say_equal_cells(study)
    settings = [setting for of_entry in study.settings() for setting in of_entry]
    if fields := left_out(study.base, settings):
        logger.warning(
            "%s: %s of base is not used where a whole value takes its place; put it there",
            path,
            first_of(fields),
        )
    return study


def _fix_fields(study: Study, fixed: Sequence[tuple[str, Any]], where: str) -> Study:
    """Return the study with some fields set to one value for all cells.

    What else it says of those fields is dropped. So are published figures of cells that no longer
    exist.

    Raises:
        ConfigError: if a cell would overwrite one of the fields.
    """
    base = copy.deepcopy(study.base)
    for path, value in fixed:
        set_field(base, path.split("."), value)
    fields = {field_of(path) for path, _ in fixed}
    runs, dropped = [], []
    for entry in study.runs:
        kept = _without(entry.fields, fields)
        dropped += [f"{p} of run {entry.name!r}" for p in entry.fields if p not in kept]
        runs.append(entry.model_copy(update={"fields": kept}))
    changed: dict[str, Any] = {"base": base, "runs": runs, "published": {}}
    for part, axes in (("vary", study.vary), ("tune", study.tune), ("search", study.space)):
        kept = _without(axes, fields)
        dropped += [f"{part}.{axis}" for axis in axes if axis not in kept]
        changed[part] = kept
    space, search = changed.pop("search"), study.search
    changed["search"] = search.model_copy(update={"space": space}) if search and space else None
    if dropped:
        words = ", ".join(path for path, _ in fixed)
        logger.warning("set for all cells: %s; dropped: %s", words, ", ".join(dropped))
    fixed_study = study.model_copy(update=changed)
    try:
        for settings in fixed_study.settings():
            for path, value in fixed:
                refuse_overwritten([Setting(f"the word {path}", path, [value]), *settings])
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    names = {cell.name for cell in fixed_study.cells()}
    if {path for path, _ in fixed} & {"model", "task"}:
        return fixed_study  # figures of another model or task say nothing about this one
    published = {name: figures for name, figures in study.published.items() if name in names}
    return fixed_study.model_copy(update={"published": published})


def _say_equal_cells(study: Study) -> None:
    """Warn of cells that differ in their names only."""
    seen: dict[str, str] = {}
    for cell in study.cells():
        text = cell.config.model_dump_json()
        if text in seen:
            logger.warning(
                "study %s: cells %r and %r have the same configuration, so they will not differ",
                study.name,
                seen[text],
                cell.name,
            )
        seen.setdefault(text, cell.name)


def _without(axes: Mapping[str, Any], fields: set[Field]) -> dict[str, Any]:
    """Return the axes or overrides that set none of these fields."""
    return {
        axis: value
        for axis, value in axes.items()
        if fields.isdisjoint(field_of(path) for path in paths_of(axis))
    }
