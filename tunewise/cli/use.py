"""The commands that use finished runs: `judge`, `export`, `predict` and `serve`."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunewise.cli.options import FinishedRun, Json, only_given
from tunewise.errors import ConfigError
from tunewise.json_text import to_json

logger = logging.getLogger(__name__)


def judge(
    folder: FinishedRun,
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
        raise ConfigError("--out: only with --against; scores are written to the run's own folder")
    from rich.console import Console

    from tunewise.cli import show
    from tunewise.config import fields_of
    from tunewise.judging import JudgeConfig, judge_pair, judge_run
    from tunewise.runs.progress import counting
    from tunewise.settings import validate

    config = validate(JudgeConfig, fields_of(words or []), "judge")
    with counting(Console(stderr=True)) as count:
        progress = partial(count, "answers")
        if against is None:
            judgement = asdict(judge_run(folder, config, progress))
        else:
            judgement = asdict(judge_pair(folder, against, config, out, progress))
    if as_json:
        print(to_json(judgement))
    else:
        show.print_judgement(judgement)


def export(
    folder: FinishedRun,
    form: Annotated[
        str, typer.Option("--format", metavar="peft|hf", help="adapter or whole model")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="new folder")],
) -> None:
    """Write a trained run as a PEFT adapter, or as a whole Hugging Face model."""
    from rich.console import Console

    from tunewise.interop import export as export_run
    from tunewise.runs.progress import show_work

    with show_work("exporting", Console(stderr=True)):
        export_run(folder, form, out)
    print(out)


def predict(
    folder: FinishedRun,
    source: Annotated[
        Path,
        typer.Option("--input", metavar="FILE", help="file of rows; labels are not needed"),
    ],
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="new file: .csv and .tsv a table, else JSON lines; - prints them"
        ),
    ],
    bad_rows: Annotated[
        Literal["stop", "drop"],
        typer.Option(help="whether rows that cannot be used stop it, or are left out"),
    ] = "stop",
    key: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="COLUMN", help="column with your own keys; default: FILE:LINE"
        ),
    ] = None,
    with_input: Annotated[
        bool, typer.Option("--with-input", help="write the columns of each row, too")
    ] = False,
) -> None:
    """Predict the label or text of every row of a file with a trained run."""
    from rich.console import Console

    from tunewise.predict_file import predict_file
    from tunewise.runs.progress import counting

    place = None if str(output) == "-" else output
    with counting(Console(stderr=True)) as show:
        progress = partial(show, "rows")
        count = predict_file(folder, source, place, bad_rows, key, with_input, progress)
    logger.info("%d rows answered", count)


def serve(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN [RUN ...]", help="folders of runs, or models")
    ],
    host: Annotated[
        str | None, typer.Option(help="address to listen on; default: 127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="port; default: 8000; 0 takes a free one")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="TUNEWISE_TOKEN", help="token that requests must carry; default: none"),
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="texts written at once; default: 16")
    ] = None,
    max_queue: Annotated[
        int | None, typer.Option(help="texts or rows that wait; default: 256")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="tokens of a prompt and its text; default: the model's context"),
    ] = None,
    max_body: Annotated[
        int | None, typer.Option(help="bytes of a request; default: 1,048,576")
    ] = None,
) -> None:
    """Serve runs over an OpenAI-compatible HTTP API, until Ctrl-C."""
    from tunewise.serving import ServeConfig
    from tunewise.serving import serve as serve_runs
    from tunewise.settings import validate

    settings = only_given(
        host=host,
        port=port,
        token=token,
        max_batch=max_batch,
        max_queue=max_queue,
        max_length=max_length,
        max_body=max_body,
    )
    serve_runs(names, validate(ServeConfig, settings, "serve"))
