"""Advice about wrong words and options of the command line.

This is imported only once there is a mistake: it takes what the commands themselves take.
"""

from pathlib import Path

import typer

from tunewise.config import RunConfig
from tunewise.field_names import places_of
from tunewise.methods import METHODS
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.runs.folder import CONFIG_FILE
from tunewise.studies.study import Study
from tunewise.tasks.named import task_names

MAX_FIELDS = 3
"""Most fields that are named."""


def explain_word(word: str) -> str:
    """Return what is wrong with a word that is no `key=value` and no file, and what was meant."""
    problem = f"{word!r} is neither key=value, without spaces, nor a configuration file"
    key, colon, value = word.partition(":")
    if colon and all(part.isidentifier() for part in key.split(".")):
        return f"{problem}; write {key}={value.strip() or 'VALUE'}"
    for option, names in {"task": task_names(), "method": METHODS, "model": KNOWN_MODELS}.items():
        if word in names:
            return f"{problem}; write --{option} {word}"
    if (Path(word) / CONFIG_FILE).is_file():
        return f"{problem}; the configuration of this run is {Path(word) / CONFIG_FILE}"
    if places := places_of(RunConfig, word.rpartition(".")[2]):
        return f"{problem}; write {places[0]}=VALUE"
    return problem


def explain_option(error: typer.TyperException) -> str:
    """Return what is wrong with the words and options of a command, and what was meant."""
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
    message = error.format_message()
    if context is None or not option or not message.startswith("No such option"):
        return message
    if not any(parameter.name == "words" for parameter in context.command.params):
        return message
    path, _, name = option.lstrip("-").replace("-", "_").rpartition(".")
    places = [p for p in places_of(RunConfig, name) if not path or p.rpartition(".")[0] == path]
    if context.info_name == "study" and name in Study.model_fields:
        places = [name]
    if not places:
        return message
    words = " or ".join(f"{place}=VALUE" for place in places[:MAX_FIELDS])
    return f"No such option: {option}; a field is set by a word without dashes: {words}"
