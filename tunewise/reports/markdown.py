"""The report's answer and tables in Markdown, for a README or a paper."""

from collections.abc import Sequence

from tunewise.reports.summary import find_warnings, summarize
from tunewise.reports.tables import Table, cells_table, effects_table, pairs_table
from tunewise.studies.compare import Comparison


def render_markdown(comparison: Comparison) -> str:
    """Return the answer and the tables in GitHub's Markdown."""
    study = comparison.study
    parts = [f"# {_escape(study.name)}", _escape(study.description)]
    parts += [_escape(sentence) for sentence in summarize(comparison)]
    parts += ["\n".join(f"- {_escape(text)}" for text in find_warnings(comparison))]
    parts += ["## Test results of each cell", _table(cells_table(comparison))]
    if comparison.effects:
        parts += ["## Effect of each axis", _table(effects_table(comparison))]
    if comparison.pairs:
        table = pairs_table(comparison, comparison.pairs)
        parts += ["## Differences between cells", _table(table)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> str:
    lines: list[Sequence[str]] = [table.titles, ["---"] * len(table.header), *table.rows]
    return "\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines)


def _escape(text: str) -> str:
    """Return a text on one line in which nothing is a mark of Markdown or HTML."""
    text = " ".join(text.split())
    for mark in ("\\", "|", "`", "*", "_", "<", ">", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return text
