"""The report as one HTML page that needs nothing but itself."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import yaml

from tunewise.reports import words
from tunewise.reports.answer import answer, warnings
from tunewise.reports.sections import Figure, Section
from tunewise.reports.tables import TABLES, Column, by_class, columns
from tunewise.studies.compare import CellResult, Comparison
from tunewise.studies.trials import COMMAND_FILE

HERE = Path(__file__).parent
MADE_BY = "Made by tunewise."
MAX_EXAMPLES = 10
"""Test examples shown with what each cell answered."""


def page(comparison: Comparison, sections: Sequence[Section]) -> str:
    """Return the page. Every text that comes from a study or its rows is escaped."""
    study = comparison.study
    title = f"{study.name}: a comparison by tunewise"
    body = [
        f"<h1>{escape(study.name)}</h1>",
        f'<p class="question">{escape(study.description)}</p>' if study.description else "",
        _answer(comparison),
        "<h2>The cells</h2>",
        _note(
            f"Test {comparison.metric.name} and others with 95 % intervals, "
            + ("over seeds." if study.seeds > 1 else "over test examples.")
            + (f" Published: {study.source}." if study.source else "")
        ),
        _cells(comparison),
        *(_section(section) for section in sections if section.name in ("cost", "effects")),
        _pairs(comparison),
        *(_section(section) for section in sections if section.name not in ("cost", "effects")),
        _per_class(comparison),
        _answers(comparison),
        _settings(comparison),
        f"<footer>{MADE_BY} The numbers are in {', '.join(TABLES)}.</footer>",
    ]
    figures = [figure for section in sections for figure in section.figures]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # The page draws itself and asks nobody for anything.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
        'img-src data: blob:">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_file('page.css')}</style></head>"
        f"<body><main>{''.join(body)}</main>"
        f"{''.join(_data(figure) for figure in figures)}"
        f"{_scripts() if figures else ''}<script>{_file('page.js')}</script></body></html>\n"
    )


def _answer(comparison: Comparison) -> str:
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in answer(comparison))
    careful = "".join(f"<li>{escape(text)}</li>" for text in warnings(comparison))
    careful = f'<ul class="careful">{careful}</ul>' if careful else ""
    return f'<div class="answer">{sentences}</div>{careful}'


def _cells(comparison: Comparison) -> str:
    shown = columns(comparison)
    head = _heading("cell", "cell", "words") + "".join(
        _heading(column.title, next(iter(column.values)), _kind(column)) for column in shown
    )
    lines = []
    for row in comparison.rows:
        cells = _cell(row.name, row.name, "words")
        for column in shown:
            value = next(iter(column.values.values()))(row)
            cells += _cell(column.text(row), "" if value != value else str(value), _kind(column))
        mark = ' class="recommended"' if row is comparison.recommended else ""
        lines.append(f"<tr{mark}>{cells}</tr>")
    return (
        f'<div class="scroll"><table id="cells"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _kind(column: Column) -> str:
    return "words" if column.is_words else "number"


def _heading(title: str, name: str, kind: str) -> str:
    return (
        f'<th scope="col" class="{kind}" data-column="{escape(name)}">'
        f'<button type="button">{escape(title)}</button></th>'
    )


def _cell(text: str, value: str, kind: str) -> str:
    return f'<td class="{kind}" data-value="{escape(value)}">{escape(text)}</td>'


def _section(section: Section) -> str:
    alone = len(section.figures) == 1
    figures = "".join(_figure(figure, alone) for figure in section.figures)
    figures = f'<div class="pairs">{figures}</div>' if not alone else figures
    return f"<h2>{escape(section.heading)}</h2>{_note(section.note)}{figures}"


def _figure(figure: Figure, alone: bool) -> str:
    caption = "" if alone else f"<figcaption>{escape(figure.title)}</figcaption>"
    choice = ""
    if figure.switches:
        options = "".join(f"<option>{escape(name)}</option>" for name in figure.switches)
        choice = (
            f'<label>Cost: <select data-figure="{figure.name}" autocomplete="off">'
            f"{options}</select></label>"
        )
    return (
        f"<figure>{caption}{choice}"
        f'<div class="plot" data-figure="{figure.name}" role="img" '
        f'aria-label="{escape(figure.title)}" style="height:{figure.plot.layout.height}px"></div>'
        "</figure>"
    )


def _data(figure: Figure) -> str:
    """Return a figure as JSON that no text in it can end."""
    from plotly.io.json import to_json_plotly  # with null for what is not a finite number

    text = to_json_plotly({"plot": figure.plot, "switches": figure.switches})
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{figure.name}">{text}</script>'


def _pairs(comparison: Comparison) -> str:
    """Return the table of all pairs: the best cell's first, since the answer rests on them."""
    if not comparison.pairs:
        return ""
    name = comparison.metric.name
    best = comparison.best.name if comparison.best else ""
    lines = []
    for pair in sorted(comparison.pairs, key=lambda pair: best not in (pair.first, pair.second)):
        pair = (
            comparison.pair(best, pair.first) or comparison.pair(best, pair.second) or pair
            if best in (pair.first, pair.second)
            else pair
        )
        difference = "shown" if pair.is_significant else "no difference shown"
        lines.append(
            f'<tr><td class="words">{escape(pair.first)}</td><td class="words">'
            f"{escape(pair.second)}</td><td>{words.difference_of(name, pair.difference)}</td>"
            f"<td>{words.p_of(pair.p)}</td><td>{words.p_of(pair.corrected)}</td>"
            f'<td class="words">{difference}</td></tr>'
        )
    tests = words.listed(sorted({pair.test for pair in comparison.pairs}))
    table = (
        '<div class="scroll"><table id="pairs"><thead><tr><th>first</th><th class="words">second'
        f"</th><th>difference in {escape(name)}</th><th>p</th><th>corrected p</th>"
        '<th class="words">difference</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    note = (
        f"First minus second, on the same test examples, by {tests}; p-values corrected by "
        f"Holm's method over {len(lines)} pairs. Shown is what has a corrected p below 0.05."
    )
    table = table if len(lines) <= 15 else f"<details><summary>All pairs</summary>{table}</details>"
    return f"<h2>Which differ</h2>{_note(note)}{table}"


def _per_class(comparison: Comparison) -> str:
    lines = []
    for row in comparison.rows:
        for one in by_class(row):
            shares = (one.scores[name] for name in ("precision", "recall", "f1"))
            figures = "".join(f"<td>{100 * share:.1f} %</td>" for share in shares)
            lines.append(
                f'<tr><td class="words">{escape(row.name)}</td>'
                f'<td class="words">{escape(one.label)}</td>{figures}'
                f"<td>{one.scores['support']:.0f}</td></tr>"
            )
    if not lines:
        return ""
    return (
        '<details><summary>Precision, recall and F1 of each label</summary><div class="scroll">'
        '<table><thead><tr><th>cell</th><th class="words">label</th><th>precision</th>'
        "<th>recall</th><th>F1</th><th>test examples</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _answers(comparison: Comparison) -> str:
    """Return some test examples with what each cell answered, by its first seed."""
    rows = [row for row in comparison.rows if row.runs]
    if not any(prediction.predicted for row in rows for prediction in row.runs[0].predictions):
        return ""
    numbers = range(len(rows[0].runs[0].predictions))
    if any(prediction.prompt for prediction in rows[0].runs[0].predictions):
        chosen, heading = list(numbers)[:MAX_EXAMPLES], "What each cell wrote"
        note = "The first test examples, by the first seed of each cell."
    else:
        chosen, heading = _disputed(rows, numbers), "Where the cells differ most"
        note = "Test examples on which the cells' first seeds disagree most."
    if not chosen:
        return ""
    head = "".join(f'<th class="words">{escape(row.name)}</th>' for row in rows)
    lines = []
    for number in chosen:
        example = rows[0].runs[0].predictions[number]
        given = f"{example.example_id}\n{example.prompt}".strip()
        cells = "".join(
            _text(_continued(row.runs[0].predictions[number].predicted, example.prompt))
            for row in rows
        )
        lines.append(f"<tr>{_text(given)}{_text(example.expected)}{cells}</tr>")
    return (
        f"<h2>{heading}</h2>{_note(note)}"
        '<div class="scroll"><table id="answers"><thead><tr><th class="words">test example</th>'
        f'<th class="words">expected</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _disputed(rows: Sequence[CellResult], numbers: range) -> list[int]:
    """Return the examples on which the answers differ, the most disputed first."""

    def share(number: int) -> float:
        some = [row.runs[0].predictions[number].predicted for row in rows]
        return max(some.count(one) for one in some) / len(some)

    disputed = sorted((share(number), number) for number in numbers if share(number) < 1)
    return [number for _, number in disputed[:MAX_EXAMPLES]]


def _continued(predicted: str, prompt: str) -> str:
    """Return an answer without the given lines that it may begin with."""
    return predicted.removeprefix(prompt.strip()).strip("\n")


def _text(text: str) -> str:
    return f'<td class="text">{escape(text)}</td>'


def _settings(comparison: Comparison) -> str:
    """Return what repeats the study: its file, what was chosen, where it ran."""
    folder = comparison.folder
    command = (
        (folder / COMMAND_FILE).read_text("utf-8") if (folder / COMMAND_FILE).is_file() else ""
    )
    study = yaml.safe_dump(
        comparison.study.model_dump(mode="json", exclude_defaults=True),
        sort_keys=False,
        allow_unicode=True,
    )
    parts = [
        f"<h2>To repeat it</h2><pre>{escape(command)}</pre>" if command else "<h2>Settings</h2>"
    ]
    parts.append(f"<details><summary>The study</summary><pre>{escape(study)}</pre></details>")
    for row in comparison.rows:
        if not row.runs:
            continue
        first = row.runs[0].result
        config = yaml.safe_dump(
            {
                "overrides": row.cell.overrides,
                "chosen": {} if row.winner is None else row.winner.overrides,
                "config": first.config.model_dump(mode="json"),
                "environment": first.environment.model_dump(),
                "device": first.memory.device,
                "data": {name: size.model_dump() for name, size in first.data.items()},
            },
            sort_keys=False,
            allow_unicode=True,
        )
        parts.append(
            f"<details><summary>{escape(row.name)}</summary><pre>{escape(config)}</pre></details>"
        )
    return "".join(parts)


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _scripts() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _file(name: str) -> str:
    return (HERE / name).read_text("utf-8")
