"""The commands that train and compare: `run`, `study` and `report`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from tunewise.cli.options import (
    ConfigWords,
    Data,
    MethodKind,
    Model,
    Target,
    TaskName,
    Texts,
    configure,
    only_given,
    split_words,
    used_data,
)
from tunewise.errors import ConfigError

logger = logging.getLogger(__name__)


def run(
    context: typer.Context,
    words: ConfigWords = None,
    target: Target = None,
    text: Texts = None,
    model: Model = None,
    task: TaskName = None,
    method: MethodKind = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="new folder for the run; default: runs/NAME")
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="begin with this finished run's weights and settings"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show examples, lengths and labels, and stop")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="continue the run in --out from its last checkpoint")
    ] = False,
) -> None:
    """Train and evaluate one set-up. With no argument: the embedded model, task and LoRA."""
    given = split_words(words)
    from rich.console import Console

    from tunewise.cli import show
    from tunewise.run import run as run_config
    from tunewise.runs.dry_run import dry_run as examples_and_lengths
    from tunewise.runs.folder import CONFIG_FILE, refuse_missing_run
    from tunewise.runs.origin import kept_data
    from tunewise.runs.progress import Progress, print_line
    from tunewise.training.parallel import is_main

    options = only_given(model=model, task=task, method=method)
    if from_run is not None:
        refuse_missing_run(from_run)
        if not (from_run / CONFIG_FILE).is_file():
            raise ConfigError(f"--from {from_run}: not the folder of a run: no {CONFIG_FILE} there")
        given = given._replace(
            file=given.file or from_run / CONFIG_FILE, fields=[*given.fields, f"from={from_run}"]
        )
        data = data or (kept_data(from_run) if task is None else None)
    if resume and out is not None and given.file is None and given.table is None:
        kept = out / CONFIG_FILE  # the run in `out`, as it was configured, with any fields changed
        if kept.is_file():
            given = given._replace(file=kept)
        elif not (words or options):
            raise ConfigError(f"--resume: no run in {out} ({kept} is not there)")
        else:
            logger.warning("--resume: no run in %s, so a new one begins", out)
    config, reason = configure(given, options, target, text)
    data = used_data(context, data, [config.task])
    console = Console(quiet=not is_main())
    if reason is not None:
        print_line(console, reason)
    if dry_run:
        data = data or (kept_data(out) if resume else None)
        show.print_dry_run(*examples_and_lengths(config, data), console)
        return
    repeats = given.file.parent if given.file is not None and not resume else None
    record = run_config(config, data, out, Progress(console), resume=resume, repeats=repeats)
    show.print_samples(record.predictions, console)
    show.print_result(record.result, record.folder, console)


def study(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="STUDY.yaml", help="the study; see docs/studies.md")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="fields for all cells (model=pocket), or of the study (seeds=1)",
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the study; default: runs/NAME")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="continue a study: only what is missing is run")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="number of processes at once")] = 1,
) -> None:
    """Run every cell of a study, each with the same budget and seeds."""
    from rich.console import Console

    from tunewise.runs.memo import Shared
    from tunewise.runs.origin import kept_data
    from tunewise.runs.progress import tell_how_to_go_on
    from tunewise.studies.check import check_rows
    from tunewise.studies.live import show_plan, show_progress
    from tunewise.studies.read import read_study
    from tunewise.studies.runner import open_folder, run_study
    from tunewise.training.parallel import num_launched

    if num_launched() > 1:
        raise ConfigError("study: start it as one process; --jobs says how many it may start")
    plan = read_study(file, words or [])
    data = used_data(context, data, [cell.config.task for cell in plan.cells()])
    folder = out or Path("runs") / plan.name
    open_folder(folder, resume)
    data = data or (kept_data(folder) if resume else None)
    console, shared = Console(), Shared()
    # What each run logs would tear the table.
    logging.getLogger("tunewise").setLevel(logging.WARNING)
    check_rows(plan, folder, data, shared)
    to_do = show_plan(plan, folder, data, jobs, console, shared)
    try:
        with show_progress(plan, to_do, console) as notify:
            failed = run_study(plan, folder, data, jobs, notify, shared)
    except KeyboardInterrupt:
        options = ["--out", str(folder), "--jobs", str(jobs), "--resume"]
        tell_how_to_go_on(["study", str(file), *(words or []), *options])
        raise
    console.print(f"\nfor the report: tunewise report {folder}", highlight=False, soft_wrap=True)
    if failed:
        more = f" ({len(failed)} runs failed)" if len(failed) > 1 else ""
        raise ConfigError(f"{failed[0]}{more}; --resume tries again")


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="folder of a study, or of a finished run")
    ],
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="file for the page; default: DIR/report.html")
    ] = None,
) -> None:
    """Make the report of a study (a page, tables, figures) or the page of a single run."""
    from rich.console import Console

    from tunewise.reports.report import write_report
    from tunewise.runs.progress import show_work

    with show_work("making the report", Console(stderr=True)):
        path = write_report(folder, out, data)
    print(path)
