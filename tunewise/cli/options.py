"""Arguments and options that several commands share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tunewise.errors import ConfigError

if TYPE_CHECKING:  # a command imports only what it uses
    from tunewise.config import RunConfig
    from tunewise.tasks import Task

ConfigWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG.yaml|TABLE|KEY=VALUE]",
        help="a configuration file, a table of rows (.csv, .jsonl, ...), and single fields",
    ),
]
Target = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="column of the table that is to be predicted")
]
Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--text", metavar="COLUMN", help="column of the table with the text; may be repeated"
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
RunOrModel = Annotated[str, typer.Argument(metavar="RUN", help="folder of a run, or a model")]
MaxNewTokens = Annotated[int | None, typer.Option(help="most tokens to write")]
Temperature = Annotated[float | None, typer.Option(help="0 takes the most likely token")]
TopP = Annotated[
    float | None,
    typer.Option(help="sample from the most likely tokens that have this probability together"),
]
TopK = Annotated[int | None, typer.Option(help="sample from this many of the most likely tokens")]
Stop = Annotated[
    list[str] | None,
    typer.Option(help="text that ends the output; may be repeated; \\n is a line end"),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**32 - 1, help="seed of sampling; default: the run's")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


class Words(NamedTuple):
    """The words of a command that configure a run."""

    file: Path | None
    """The configuration file."""
    table: Path | None
    """The file or folder of rows."""
    fields: list[str]
    """The words `key=value`."""


def split_words(words: list[str] | None) -> Words:
    """Return the configuration file and the table among a command's words, and the fields.

    Raises:
        ConfigError: if a word is none of them, or a second file of one kind.
    """
    configurations, tables = [], []
    for place, word in enumerate(words or [], start=1):
        if "=" in word:
            continue
        if _is_table(Path(word)):
            tables.append(Path(word))
        elif word.endswith((".yaml", ".yml")) or Path(word).is_file():
            configurations.append(Path(word))
        else:
            from tunewise.cli.mistakes import explain_word

            raise ConfigError(explain_word(word, (words or [])[place:]))
    for what, found in {"configuration file": configurations, "table": tables}.items():
        if len(found) > 1:
            raise ConfigError(f"{str(found[1])!r} is a second {what}; one is read")
    fields = [word for word in words or [] if "=" in word]
    return Words(next(iter(configurations), None), next(iter(tables), None), fields)


def _is_table(path: Path) -> bool:
    """Return whether a word names rows: a file by its ending, or a folder of splits."""
    from tunewise.data.rows import OTHER_KINDS, SUFFIXES, suffix_of

    if path.is_dir():
        from tunewise.data.split_files import split_files
        from tunewise.runs.folder import CONFIG_FILE

        return not (path / CONFIG_FILE).exists() and bool(split_files(path))
    return suffix_of(path) in (*SUFFIXES, *OTHER_KINDS)


class Configured(NamedTuple):
    """The configuration of a run, and how the task was found out, if it was."""

    config: "RunConfig"
    reason: str | None


def configure(
    words: Words,
    options: Mapping[str, str | None],
    target: str | None = None,
    texts: Sequence[str] | None = None,
) -> Configured:
    """Return the configuration that the words and options of a command ask for.

    Args:
        options: the values of `--model`, `--task` and `--method`.
        target: the column of the table that is to be predicted.
        texts: the columns of the table with the text.

    Raises:
        ConfigError: if it is wrong, or an option is of no use.
        DataError: if the task of the table cannot be found out.
    """
    from tunewise.config import make_config
    from tunewise.tasks import TASKS
    from tunewise.tasks.recognize import recognize

    if words.table is None:
        for option, given in {"target": target, "text": texts}.items():
            if given:
                raise ConfigError(
                    f"--{option}: is of a table, and none is given: tunewise run TABLE.csv "
                    "--target COLUMN; fields of a task are set by words, such as task.label=COLUMN"
                )
        return Configured(make_config(words.file, options, words.fields), None)
    kind, task = _value_of("task.kind", words.fields), options.get("task")
    if task is not None and task not in TASKS:
        raise ConfigError(
            f"--task {task}: the task of {words.table} is found out from its rows; leave --task out"
        )
    target = target or _value_of("task.label", words.fields)
    text = _value_of("task.text", words.fields)
    found = recognize(words.table, target, texts or filter(None, [text]), task or kind)
    fields = {**options, "task": found.settings}
    return Configured(make_config(words.file, fields, words.fields), found.reason)


def _value_of(field: str, words: Sequence[str]) -> str | None:
    """Return the value that words set a field to."""
    values = [value for name, _, value in (w.partition("=") for w in words) if name == field]
    return values[-1] if values else None


def used_data(context: typer.Context, data: Path | None, tasks: "Sequence[Task]") -> Path | None:
    """Return the data folder, or None if no task reads its rows there.

    Raises:
        ConfigError: if --data is not used, or no folder. TUNEWISE_DATA may be of no use: it stays
            set for all commands.
    """
    source, is_used = context.get_parameter_source("data"), any(t.is_in_data_folder for t in tasks)
    if data is None or source is None or source.name != "COMMANDLINE":
        return data if is_used else None
    for_table = "for a table: tunewise run reviews.csv --target COLUMN"
    if data.is_file():
        raise ConfigError(
            f"--data {data}: is a file, and --data is a folder of named tasks; for this table: "
            f"tunewise run {data} --target COLUMN"
        )
    if not is_used:
        task = tasks[0]
        problem = f"is not used: the rows of task {task.name!r} are in"
        if task.path is not None:
            raise ConfigError(f"--data {data}: {problem} {task.path}; leave it out")
        raise ConfigError(
            f"--data {data}: {problem} tunewise itself; --data is a folder of named tasks, as for "
            f"--task sst5; {for_table}"
        )
    if not data.is_dir():
        raise ConfigError(f"--data {data}: no such folder; {for_table}")
    return data


def only_given(**options: Any) -> dict[str, Any]:
    """Return the options that were given on the command line, by name."""
    return {name: value for name, value in options.items() if value is not None}
