"""The commands: parse, call one function, print.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tunewise.errors import ConfigError, TunewiseError, nearest

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="tunewise",
    help="Which way to fine-tune a small language model, answered with evidence.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG.yaml] [KEY=VALUE]...", help="a configuration, and single fields of it"
    ),
]
Model = Annotated[str | None, typer.Option(help="known name, hub id or folder")]
TaskName = Annotated[str | None, typer.Option(help="name of a task; `tunewise list tasks`")]
MethodKind = Annotated[str | None, typer.Option(help="kind of method; `tunewise list methods`")]
Data = Annotated[
    Path | None,
    typer.Option(
        envvar="TUNEWISE_DATA", help="folder that holds TASK/{train,validation,test}.jsonl"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
) -> None:
    """Which way to fine-tune a small language model, answered with evidence."""
    # --debug may stand anywhere and is taken out by `main`; it is here for --help to show.


@app.command()
def run(
    words: Words = None,
    model: Model = None,
    task: TaskName = None,
    method: MethodKind = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="new folder for what the run leaves")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show examples, lengths and labels, and stop")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the last checkpoint of the run in --out")
    ] = False,
) -> None:
    """Train and evaluate one set-up. With no argument: the embedded model, task and LoRA."""
    path, overrides = _split(words)
    from rich.console import Console

    from tunewise.config import make_config
    from tunewise.run import run as run_config
    from tunewise.runs.folder import CONFIG_FILE
    from tunewise.runs.progress import Progress
    from tunewise.training.parallel import is_main

    fields = {"model": model, "task": task, "method": method}
    if resume and out is not None and not (words or any(fields.values())):
        path = out / CONFIG_FILE  # the folder says what the run is
    config = make_config(path, fields, overrides)
    console = Console(quiet=not is_main())
    if dry_run:
        _print_dry_run(config, data, console)
        return
    record = run_config(config, data, out, Progress(console), resume=resume)
    _print_samples(record.predictions, console)
    _print_result(record.result, record.folder, console)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="the study; docs/studies.md")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="fields for all cells (model=pocket), or of the study (seeds=1)",
        ),
    ] = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="the study's folder; runs/NAME")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a study: only what is missing is run")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="processes at once")] = 1,
) -> None:
    """Run every cell of a study, each with the same budget and seeds."""
    from rich.console import Console

    from tunewise.studies.live import show_plan, shown
    from tunewise.studies.runner import open_folder, run_study
    from tunewise.studies.study import read_study
    from tunewise.training.parallel import num_launched

    if num_launched() > 1:
        raise ConfigError("study: one process begins its runs; --jobs says how many at once")
    plan = read_study(file, words or [])
    folder = out or Path("runs") / plan.name
    open_folder(folder, resume)
    console = Console()
    # What each run has to say would tear the table.
    logging.getLogger("tunewise").setLevel(logging.WARNING)
    num_runs = show_plan(plan, folder, data, jobs, console)
    with shown(plan, num_runs, console) as tell:
        failed = run_study(plan, folder, data, jobs, tell)
    console.print(f"\nthe report: tunewise report {folder}", highlight=False, soft_wrap=True)
    if failed:
        more = f" ({len(failed)} in all)" if len(failed) > 1 else ""
        raise ConfigError(f"{failed[0]}{more}; --resume tries again")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder of a study")],
    out: Annotated[
        Path | None, typer.Option(help="file for the page; DIR/report.html otherwise")
    ] = None,
) -> None:
    """Make the report of a study: a page, tables, figures."""
    from tunewise.reports.report import write_report

    print(write_report(folder, out))


@app.command()
def params(
    words: Words = None,
    model: Model = None,
    task: TaskName = None,
    method: MethodKind = None,
    as_json: Json = False,
) -> None:
    """Count parameters, in all and trained, without reading weights.

    Without a task the model is a language model; a classification task gives it a label layer.
    """
    path, overrides = _split(words)
    from tunewise.config import make_config
    from tunewise.runs.parameters import count_parameters

    fields = {"model": model, "task": task, "method": method}
    config = make_config(path, fields, overrides)
    named = task or path or any(word.startswith("task") for word in overrides)
    counts = count_parameters(config, config.task if named else None)
    if as_json:
        print(counts.model_dump_json())
    else:
        print(f"total      {counts.total:>15,}")
        print(f"trainable  {counts.trainable:>15,}  ({counts.percent:.4g} %)")


@app.command()
def estimate(
    words: Words = None,
    model: Model = None,
    task: TaskName = None,
    method: MethodKind = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say how much memory and time a run will take, here and on some GPUs; no weights are read."""
    path, overrides = _split(words)
    from dataclasses import asdict

    from tunewise.config import make_config
    from tunewise.estimate.survey import survey

    config = make_config(path, {"model": model, "task": task, "method": method}, overrides)
    found = survey(config, data)
    if as_json:
        print(json.dumps({**asdict(found), "advice": found.advice}))
        return
    rows = {"this machine": [found.asked], "by method": found.methods, "on": found.machines}
    for title, some in rows.items():
        _print_table([_estimate_row(title, row) for row in some])
        print()
    print(found.advice)


def _estimate_row(title: str, row: Any) -> dict[str, Any]:
    from tunewise.estimate import clock

    tokens = {} if row.pass_tokens is None else {"tokens per pass at most": row.pass_tokens}
    return {
        title: row.name,
        "memory": f"{row.peak_bytes / 2**30:.2f} of {row.room_bytes / 2**30:.0f} GiB",
        "": "fits" if row.fits else "does not fit",
        "epoch": clock(row.epoch_seconds),
        "whole run": clock(row.seconds),
        **tokens,
    }


@app.command("list")
def list_known(
    what: Annotated[str, typer.Argument(metavar="models|tasks|methods|metrics")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List what is known by name; of tasks also how many rows the data folder has."""
    from tunewise.cli import listing

    tables: dict[str, Callable[[], listing.Rows]] = {
        "models": listing.models,
        "tasks": partial(listing.tasks, data),
        "methods": listing.methods,
        "metrics": listing.metrics,
    }
    if what not in tables:
        raise ConfigError(f"list {what!r}: {nearest(what, tables)}")
    rows = tables[what]()
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


@app.command()
def judge(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="settings of the judge, such as model=NAME"),
    ] = None,
    against: Annotated[Path | None, typer.Option(help="another run to compare it with")] = None,
    out: Annotated[Path | None, typer.Option(help="file for the verdicts on each pair")] = None,
    as_json: Json = False,
) -> None:
    """Have a language model score a run's responses, or compare them with another run's."""
    if out is not None and against is None:
        raise ConfigError("--out: belongs to --against; scores go into the run's own folder")
    from dataclasses import asdict

    from tunewise.config import fields_of
    from tunewise.judging import JudgeConfig, judge_pair, judge_run
    from tunewise.runs.progress import progress_counter
    from tunewise.settings import validate

    config = validate(JudgeConfig, fields_of(words or []), "judge")
    with progress_counter("answers") as progress:
        judgement: Any = (
            judge_run(folder, config, progress)
            if against is None
            else judge_pair(folder, against, config, out, progress)
        )
    if as_json:
        print(json.dumps(asdict(judgement)))
        return
    for name, value in asdict(judgement).items():
        shown = ", ".join(f"{v:.4g}" for v in value) if isinstance(value, tuple) else value
        shown = f"{shown:.4g}" if isinstance(shown, float) else shown
        print(f"{name.replace('_', ' '):<20} {shown}")


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")],
    form: Annotated[
        str, typer.Option("--format", metavar="peft|hf", help="adapter or whole model")
    ],
    out: Annotated[Path, typer.Option(help="new folder")],
) -> None:
    """Write what a run has trained as a PEFT adapter, or a whole Hugging Face model."""
    from tunewise.interop import export as export_run

    export_run(folder, form, out)
    print(out)


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")],
    source: Annotated[Path, typer.Option("--input", help="file of rows; no label is needed")],
    output: Annotated[Path, typer.Option(help="new file of JSON lines; - prints them")],
) -> None:
    """Answer every row of a file with what a run has trained."""
    from tunewise.predict import predict_file

    count = predict_file(folder, source, None if str(output) == "-" else output)
    logger.info("%d rows answered", count)


@app.command()
def generate(
    name: Annotated[str, typer.Argument(metavar="RUN", help="folder of a run, or a model")],
    prompt: Annotated[
        str | None, typer.Option(help="what to go on from; without it, line by line from you")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="the most tokens written")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest")] = None,
    top_p: Annotated[float | None, typer.Option(help="draw from this much probability")] = None,
    top_k: Annotated[int | None, typer.Option(help="draw from this many tokens")] = None,
) -> None:
    """Write on from a prompt, token by token."""
    from tunewise.predict import load

    asked = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
    }
    decoding = {field: value for field, value in asked.items() if value is not None}
    predictor = load(name)
    for text in iter(_prompt, None) if prompt is None else [prompt]:
        for piece in predictor.stream(text, **decoding):
            print(piece, end="", flush=True)
        print()


@app.command()
def serve(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN [RUN ...]", help="folders of runs, or models")
    ],
    host: Annotated[str | None, typer.Option(help="address to listen at; 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="port; 8000, and 0 takes a free one")] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="TUNEWISE_TOKEN", help="what requests have to bear; none otherwise"),
    ] = None,
    max_batch: Annotated[int | None, typer.Option(help="texts written at once; 16")] = None,
    max_queue: Annotated[int | None, typer.Option(help="texts or rows that wait; 256")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="tokens of a prompt and its text; the model's context")
    ] = None,
    max_body: Annotated[int | None, typer.Option(help="bytes of a request; 1,048,576")] = None,
) -> None:
    """Answer OpenAI's requests over HTTP with what runs have trained, until Ctrl-C."""
    from tunewise.serving import ServeConfig
    from tunewise.serving import serve as serve_runs
    from tunewise.settings import validate

    asked = {
        "host": host,
        "port": port,
        "token": token,
        "max_batch": max_batch,
        "max_queue": max_queue,
        "max_length": max_length,
        "max_body": max_body,
    }
    given = {field: value for field, value in asked.items() if value is not None}
    serve_runs(names, validate(ServeConfig, given, "serve"))


def _prompt() -> str | None:
    """Return a line from the terminal, or None at its end."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def main() -> None:
    """Run a command; the exit code says how it went (0, 1, 2 or 130)."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("tunewise").setLevel(logging.INFO)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        # click's own errors fill a screen; ours are one line.
        sys.exit(app(arguments or ["--help"], standalone_mode=False))
    except TunewiseError as error:
        _fail(str(error), debug)
    except typer.TyperException as error:
        _fail(error.format_message(), debug)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; --resume goes on", file=sys.stderr)
        sys.exit(130)


def _fail(message: str, debug: bool) -> None:
    """Tell a user's mistake in one line and end with 2."""
    if debug:
        traceback.print_exc()
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def _split(words: list[str] | None) -> tuple[Path | None, list[str]]:
    """Part a command's words into the configuration file, if there is one, and the fields."""
    files = [word for word in words or [] if "=" not in word]
    if len(files) > 1:
        raise ConfigError(f"{files[1]!r} is neither key=value nor the one configuration file")
    return Path(files[0]) if files else None, [word for word in words or [] if "=" in word]


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0]:
        number = isinstance(rows[0][column], int)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()))
    console = Console()
    if not console.is_terminal:
        console.width = 1000  # a file or a pipe gets one line per row
    console.print(table)


def _print_dry_run(config: Any, data: Path | None, console: Any) -> None:
    from rich.text import Text

    from tunewise.runs.dry_run import dry_run

    shown, lengths = dry_run(config, data)
    console.print("What is scored stands in ⟦ ⟧.", highlight=False)
    for example in shown:
        console.print(f"\n{example.id}", style="bold", highlight=False)
        text = Text()
        for piece in example.pieces:
            text.append(f"⟦{piece.text}⟧" if piece.scored else piece.text, "green" * piece.scored)
        if example.label:
            text.append(f" ⟦{example.label}⟧", "green")
        console.print(text, soft_wrap=True)
    console.print()
    rows = []
    for split, some in lengths.items():
        labels = ", ".join(f"{name} {count:,}" for name, count in some.labels.items())
        rows.append(
            {
                "split": split,
                "examples": some.examples,
                "median": f"{some.median:.0f} tokens",
                "95 %": f"{some.most:.0f}",
                "longest": some.longest,
                "truncated": f"{100 * some.truncated:.1f} %",
                **({"labels": labels} if labels else {}),
            }
        )
    _print_table(rows)


def _print_samples(predictions: list[Any], console: Any) -> None:
    """Print the first two answers of a task that writes texts."""
    from rich.text import Text

    for prediction in predictions[:2]:
        if prediction.prompt:
            given = prediction.prompt.strip()
            written = prediction.predicted.removeprefix(given).lstrip("\n")
            console.print(f"\nsample {prediction.example_id}", style="bold", highlight=False)
            console.print(Text.assemble(given + "\n", (written, "green")), soft_wrap=True)


def _print_result(result: Any, folder: Path, console: Any) -> None:
    counts, time, best = result.parameters, result.time, result.best
    known = result.estimate  # runs of earlier versions have none
    expected = f", {known.peak_bytes / 2**20:,.0f} expected" if known else ""
    console.print()
    for metric, value in result.metrics.get("test", {}).items():  # a candidate has none
        low, high = result.intervals["test"][metric]
        text = f"test {metric:<12} {value:.4f}  (95 % interval {low:.4f} to {high:.4f})"
        console.print(text, highlight=False)
    lines = {
        "best epoch": f"{best.epoch} (validation {best.metric} {best.value:.4f})",
        "trained": f"{counts.trainable:,} of {counts.total:,} parameters ({counts.percent:.3g} %)",
        "time": f"{time.train_seconds:.1f} s training, {time.evaluation_seconds:.1f} s evaluation, "
        f"{result.tokens.per_second:,.0f} tokens/s",
        "memory": f"{result.memory.peak_bytes / 2**20:,.0f} MiB at most{expected} "
        f"({result.memory.device})",
        "results": str(folder / "result.json"),
    }
    for name, text in lines.items():
        console.print(f"{name:<17} {text}", highlight=False, soft_wrap=True)
