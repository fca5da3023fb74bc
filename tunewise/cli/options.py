"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tunewise.errors import ConfigError

ConfigWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG.yaml] [KEY=VALUE]...", help="a configuration file, and single fields of it"
    ),
]
Model = Annotated[str | None, typer.Option(help="known name, hub id or folder")]
TaskName = Annotated[str | None, typer.Option(help="name of a task; see `tunewise list tasks`")]
MethodKind = Annotated[str | None, typer.Option(help="kind of method; see `tunewise list methods`")]
Data = Annotated[
    Path | None,
    typer.Option(
        envvar="TUNEWISE_DATA", help="folder that holds TASK/{train,validation,test}.jsonl"
    ),
]
FinishedRun = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def split_words(words: list[str] | None) -> tuple[Path | None, list[str]]:
    """Return the configuration file among a command's words, if there is one, and the fields.

    Raises:
        ConfigError: if a word is neither, or more than one is a file.
    """
    files = [word for word in words or [] if "=" not in word]
    for word in files:
        if not word.endswith((".yaml", ".yml")) and not Path(word).is_file():
            from tunewise.cli.mistakes import explain_word

            raise ConfigError(explain_word(word))
    if len(files) > 1:
        raise ConfigError(f"{files[1]!r} is a second configuration file; one is read")
    return Path(files[0]) if files else None, [word for word in words or [] if "=" in word]


def only_given(**options: Any) -> dict[str, Any]:
    """Return the options that were given on the command line, by name."""
    return {name: value for name, value in options.items() if value is not None}
