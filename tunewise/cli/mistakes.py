"""Advice about wrong words and options of the command line.

This is imported only once there is a mistake: it takes what the commands themselves take.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from tunewise.config import RunConfig
from tunewise.data.rows import OTHER_KINDS, SUFFIXES, suffix_of
from tunewise.errors import first_of, nearest
from tunewise.field_names import places_of
from tunewise.methods import METHODS
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.runs.folder import CONFIG_FILE
from tunewise.studies.study import Study
from tunewise.tasks.named import task_names

OTHER_COMMANDS = {
    "run": ("train", "finetune", "fit", "tune", "sft", "evaluate", "eval"),
    "study": ("sweep", "grid", "search", "benchmark", "studies"),
    "report": ("plot", "show", "results", "summary", "compare"),
    "predict": ("inference", "infer", "classify", "test", "label"),
    "generate": ("complete", "sample", "write", "prompt", "ask"),
    "export": ("save", "merge", "convert", "push"),
    "list": ("ls", "models", "tasks", "methods", "runs"),
    "params": ("count", "parameters", "size"),
    "estimate": ("memory", "cost", "plan"),
}
"""Names of other programs' commands, by the name here."""
MAX_FIELDS = 3
"""Most fields that are named."""


def explain_word(word: str, following: Sequence[str] = ()) -> str:
    """Return what is wrong with a word that is no `key=value` and no file, and what was meant.

    Args:
        following: the words after it, which may be its value.
    """
    problem = f"{word!r} is neither key=value, without spaces, nor a configuration file or table"
    key, colon, value = word.partition(":")
    if colon and all(part.isidentifier() for part in key.split(".")):
        return f"{problem}; write {key}={value.strip() or 'VALUE'}"
    for option, names in {"task": task_names(), "method": METHODS, "model": KNOWN_MODELS}.items():
        if word in names:
            return f"{problem}; write --{option} {word}"
    if (Path(word) / CONFIG_FILE).is_file():
        return (
            f"{problem}, but the folder of a run: --out {word} --resume goes on with it, --from "
            f"{word} begins with its weights, and {Path(word) / CONFIG_FILE} repeats it"
        )
    if Path(word).is_dir():
        tables = [path for path in sorted(Path(word).iterdir()) if suffix_of(path) in SUFFIXES]
        some = f"name one of its tables: {first_of(map(str, tables))}" if tables else "has no table"
        return f"{word}: a folder without a file for each split (train, validation, test); {some}"
    if places := places_of(RunConfig, word.rpartition(".")[2]):
        values = [text.removeprefix("=") for text in following if text != "="]
        return f"{problem}; write {places[0]}={values[0] if values else 'VALUE'}"
    if "/" in word and not Path(word).exists():
        return f"{word}: no such file or folder"
    return problem


def _usage(context: typer.Context) -> str:
    """Return what has to be written for a command."""
    words = ["tunewise", context.info_name or ""]
    for parameter in context.command.params:
        if parameter.required:
            name = parameter.metavar or (parameter.name or "").upper()
            is_option = parameter.param_type_name == "option"
            words.append(f"{parameter.opts[0]} {name}" if is_option else name)
    return f"write: {' '.join(words)}"


def _value_after(option: str) -> str:
    """Return the value that was typed for an option; VALUE if there is none."""
    for place, word in enumerate(sys.argv):
        if word == option and sys.argv[place + 1 :]:
            return "VALUE" if sys.argv[place + 1].startswith("--") else sys.argv[place + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return "VALUE"


def _explain_command(message: str, context: typer.Context) -> str:
    """Return the command that was meant by a word that is none."""
    word, commands = message.split("'")[1], getattr(context.command, "commands", {})
    problem = f"no command {word!r}"
    is_configuration = word.endswith((".yaml", ".yml"))
    if is_configuration or suffix_of(Path(word)) in (*SUFFIXES, *OTHER_KINDS):
        target = "" if is_configuration else " --target COLUMN"
        return f"{problem}; write: tunewise run {word}{target}"
    plain = word.lower().replace("-", "").replace("_", "")
    if ours := next((name for name, others in OTHER_COMMANDS.items() if plain in others), None):
        rest = shlex.join(sys.argv[sys.argv.index(word) + 1 :]) if word in sys.argv else ""
        return f"{problem}; did you mean `{f'tunewise {ours} {rest}'.strip()}`?"
    return f"{problem}; {nearest(word, commands)}"


def explain_option(error: typer.TyperException) -> str:
    """Return what is wrong with the words and options of a command, and what was meant."""
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
    message = error.format_message()
    if context is not None and message.startswith("No such command"):
        return _explain_command(message, context)
    purpose = getattr(getattr(error, "param", None), "help", None)
    if message.startswith("Missing") and purpose and context is not None:
        return f"{message.rstrip('.')}: {purpose}; {_usage(context)}"
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
    value = _value_after(option)
    words = " or ".join(f"{place}={value}" for place in places[:MAX_FIELDS])
    return f"No such option: {option}; a field is set by a word without dashes: {words}"
