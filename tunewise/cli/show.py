"""The printing of tables, results, dry runs, estimates and judgements."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tunewise.terminal import visible

if TYPE_CHECKING:  # a command imports only what it uses
    from tunewise.data.rows import Split
    from tunewise.estimate.survey import Requirement, Survey
    from tunewise.metrics import Prediction
    from tunewise.runs.dry_run import Lengths, Shown
    from tunewise.runs.result import Result, Tables

NUM_SAMPLES = 2
"""Number of written texts that are printed after a run."""
MAX_LABELS = 20
"""Most labels whose scores are printed after a run; `tunewise report` shows them all."""


def print_table(rows: Sequence[Mapping[str, object]], console: Console | None = None) -> None:
    """Print rows of values by heading; the first row decides what the columns are."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, value in rows[0].items():
        is_number = isinstance(value, int)
        table.add_column(
            escape(visible(heading)), justify="right" if is_number else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console = console or Console()
    if not console.is_terminal:
        console.width = 1000  # a file or a pipe gets one line per row
    console.print(table)


def _cell(value: object) -> Text:
    """Return a value as a cell, in which nothing is markup."""
    return Text(f"{value:,}" if isinstance(value, int) else visible(str(value)))


def print_samples(predictions: "Sequence[Prediction]", console: Console) -> None:
    """Print the first answers of a task that writes texts."""
    for prediction in predictions[:NUM_SAMPLES]:
        if prediction.prompt:
            prompt = prediction.prompt.strip()
            written = visible(prediction.predicted.removeprefix(prompt).lstrip("\n"))
            console.print(Text(f"\nsample {visible(prediction.id)}", "bold"))
            shown = Text.assemble(visible(prompt) + "\n", (written, "green"))
            console.print(shown, soft_wrap=True)


def print_result(result: "Result", folder: Path, console: Console) -> None:
    """Print a run's test metrics, its best epoch, its time and its memory."""
    counts, time, best = result.parameters, result.time, result.best
    estimate = result.estimate  # runs of earlier versions have none
    expected = f", {estimate.peak_bytes / 2**20:,.0f} expected" if estimate else ""
    console.print()
    for metric, value in result.metrics.get("test", {}).items():  # a candidate has none
        low, high = result.intervals["test"][metric]
        text = f"test {metric:<12} {value:.4f}  (95 % interval {low:.4f} to {high:.4f})"
        console.print(text, highlight=False)
    if result.tables is not None:
        label, share = result.tables.commonest
        console.print(Text(f"always {label!r}: accuracy {share:.4f}"), soft_wrap=True)
        if len(result.tables.per_class) <= MAX_LABELS:
            print_table(_label_rows(result.tables), console)
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


def _label_rows(tables: "Tables") -> list[dict[str, object]]:
    return [
        {"label": label}
        | {name: f"{getattr(scores, name):.3f}" for name in ("precision", "recall", "f1")}
        | {"test rows": int(scores.support)}
        for label, scores in tables.per_class.items()
    ]


def print_dry_run(
    examples: "Sequence[Shown]", lengths: "Mapping[Split, Lengths]", console: Console
) -> None:
    """Print examples with their scored tokens marked, and how long each split's sequences are."""
    console.print("Scored tokens are in ⟦ ⟧.", highlight=False)
    for example in examples:
        console.print(Text(f"\n{visible(example.id)}", "bold"))
        text = Text()
        for piece in example.pieces:
            if piece.scored:
                text.append(f"⟦{visible(piece.text)}⟧", "green")
            else:
                text.append(visible(piece.text))
        if example.label:
            text.append(f" ⟦{visible(example.label)}⟧", "green")
        console.print(text, soft_wrap=True)
    console.print()
    print_table([_lengths_row(split, of_split) for split, of_split in lengths.items()])


def _lengths_row(split: "Split", lengths: "Lengths") -> dict[str, object]:
    row: dict[str, object] = {
        "split": split,
        "examples": lengths.examples,
        "median": f"{lengths.median:.0f} tokens",
        "95 %": f"{lengths.most:.0f}",
        "longest": lengths.longest,
        "truncated": f"{100 * lengths.truncated:.1f} %",
    }
    if lengths.labels:
        row["labels"] = ", ".join(f"{name} {count:,}" for name, count in lengths.labels.items())
    return row


def print_survey(survey: "Survey") -> None:
    """Print the memory and time of a run here, with each method, and on GPUs; and the advice."""
    tables = {"this machine": [survey.asked], "method": survey.methods, "GPU": survey.machines}
    for heading, rows in tables.items():
        print_table([_estimate_row(heading, row) for row in rows])
        print()
    if survey.note:
        print(f"Note: {survey.note}\n")
    print(survey.advice)


def _estimate_row(heading: str, row: "Requirement") -> dict[str, object]:
    from tunewise.durations import format_duration

    shown: dict[str, object] = {
        heading: row.name,
        "memory": f"{row.peak_bytes / 2**30:.2f} of {row.room_bytes / 2**30:.0f} GiB",
        "fits": "yes" if row.fits else "no",
        "epoch": format_duration(row.epoch_seconds),
        "whole run": format_duration(row.seconds),
    }
    if row.pass_tokens is not None:
        shown["largest tokens_per_pass"] = row.pass_tokens
    return shown


def print_judgement(judgement: Mapping[str, object]) -> None:
    """Print the figures of a judgement, one to a line."""
    for name, value in judgement.items():
        shown = ", ".join(map(_figure, value)) if isinstance(value, tuple) else _figure(value)
        print(f"{name.replace('_', ' '):<20} {shown}")


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
