"""The report's tables for a README or a paper."""

from collections.abc import Sequence

from tunewise.reports import words
from tunewise.reports.answer import answer, warnings
from tunewise.reports.tables import columns
from tunewise.studies.compare import Comparison


def markdown(comparison: Comparison) -> str:
    """Return the answer and the tables as GitHub reads them."""
    study, name = comparison.study, comparison.metric.name
    parts = [f"# {_plain(study.name)}", _plain(study.description)]
    parts += [_plain(sentence) for sentence in answer(comparison)]
    parts += ["\n".join(f"- {_plain(text)}" for text in warnings(comparison))]
    shown = columns(comparison)
    lines = [[row.name, *(column.text(row) for column in shown)] for row in comparison.rows]
    parts += ["## Cells", _table(["cell", *(column.title for column in shown)], lines)]
    if comparison.effects:
        lines = [
            [effect.axis, effect.value, words.estimate_of(name, effect.interval)]
            for effect in comparison.effects
        ]
        parts += ["## Effect of each axis", _table(["axis", "value", name], lines)]
    if comparison.pairs:
        lines = [
            [
                *(pair.first, pair.second, words.difference_of(name, pair.difference)),
                *(words.p_of(pair.p), words.p_of(pair.corrected)),
                "shown" if pair.is_significant else "no difference shown",
            ]
            for pair in comparison.pairs
        ]
        header = ["first", "second", f"difference in {name}", "p", "corrected p", "difference"]
        parts += ["## Which differ", _table(header, lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _plain(text: str) -> str:
    """Return a text in which nothing is a mark of Markdown or HTML."""
    text = " ".join(text.split())
    for mark in ("\\", "|", "`", "*", "_", "<", ">", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return text
