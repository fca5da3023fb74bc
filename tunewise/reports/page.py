"""The report as one HTML page that needs no other file: page.html with its slots filled."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tunewise.reports.figure import Figure
from tunewise.reports.sections import Folded, Section
from tunewise.reports.tables import Heading, Table

HERE = Path(__file__).parent
MADE_BY = "Made by tunewise."
"""Marks a file as a report; other files are not overwritten."""


class Html(str):
    """A piece of HTML. Every other text is escaped when it is put into one."""


@dataclass(frozen=True)
class Page:
    """The content of a page, in its order."""

    name: str
    question: str
    answer: Sequence[str]
    """The paragraphs of the answer."""
    warnings: Sequence[str]
    sections: Sequence[Section]
    files: Sequence[str]
    """Names of the files that hold the numbers."""


def render_page(page: Page) -> str:
    """Return the page as HTML. Texts of a study and of rows are escaped."""
    figures = [figure for section in page.sections for figure in section.figures]
    return _fill(
        _file("page.html"),
        name=page.name,
        question=_paragraph("question", page.question),
        answer=_join(_fill("<p>$text</p>", text=text) for text in page.answer),
        warnings=_warnings(page.warnings),
        sections=_join(_section(section) for section in page.sections),
        made_by=MADE_BY,
        files=", ".join(page.files),
        figures=_join(_figure_data(figure) for figure in figures),
        plotly=_plotly() if figures else Html(),
        style=_file("page.css"),
        script=_file("page.js"),
    )


def _fill(template: str, **slots: str) -> Html:
    """Return a template with its `$slots` filled: the one place where text is escaped."""
    escaped = {
        name: text if isinstance(text, Html) else html.escape(text) for name, text in slots.items()
    }
    return Html(Template(template).substitute(escaped))


def _join(pieces: Iterable[Html]) -> Html:
    return Html("\n".join(pieces))


def _file(name: str) -> Html:
    return Html((HERE / name).read_text("utf-8"))


def _paragraph(kind: str, text: str) -> Html:
    """Return a paragraph of a class, or nothing for an empty text."""
    return _fill('<p class="$kind">$text</p>', kind=kind, text=text) if text else Html()


def _warnings(warnings: Sequence[str]) -> Html:
    items = _join(_fill("<li>$text</li>", text=text) for text in warnings)
    return _fill('<ul class="warnings">$items</ul>', items=items) if items else Html()


def _section(section: Section) -> Html:
    return _fill(
        "<h2>$heading</h2>\n$note\n$figures\n$table\n$text\n$folded",
        heading=section.heading,
        note=_paragraph("note", section.note),
        figures=_figures(section.figures),
        table=_table(section.table) if section.table else Html(),
        text=_preformatted(section.text) if section.text else Html(),
        folded=_join(_folded(folded) for folded in section.folded),
    )


def _figures(figures: Sequence[Figure]) -> Html:
    """Return one figure over the full width, or several side by side with captions."""
    if len(figures) < 2:
        return _join(_figure(figure, caption="") for figure in figures)
    pieces = _join(_figure(figure, caption=figure.title) for figure in figures)
    return _fill('<div class="figures">$pieces</div>', pieces=pieces)


def _figure(figure: Figure, caption: str) -> Html:
    return _fill(
        '<figure>$caption$views<div class="plot" data-figure="$name" role="img" '
        'aria-label="$title" style="height:${height}px"></div></figure>',
        caption=_fill("<figcaption>$text</figcaption>", text=caption) if caption else Html(),
        views=_view_menu(figure) if figure.views else Html(),
        name=figure.name,
        title=figure.title,
        height=str(figure.plot.layout.height),
    )


def _view_menu(figure: Figure) -> Html:
    options = _join(_fill("<option>$title</option>", title=view.title) for view in figure.views)
    return _fill(
        '<label>Cost: <select data-figure="$name" autocomplete="off">$options</select></label>',
        name=figure.name,
        options=options,
    )


def _figure_data(figure: Figure) -> Html:
    """Return a figure as JSON in a script element, which no text in the JSON can end."""
    from plotly.io.json import to_json_plotly  # writes null for a number that is not finite

    views = {view.title: view.as_update() for view in figure.views}
    data = to_json_plotly({"plot": figure.plot, "views": views}).replace("<", "\\u003c")
    return _fill(
        '<script type="application/json" id="$name">$data</script>',
        name=figure.name,
        data=Html(data),
    )


def _table(table: Table) -> Html:
    """Return a table that scrolls sideways on its own, not with the page."""
    head = _join(_heading(heading) for heading in table.header)
    body = _join(_row(table, number) for number in range(len(table.rows)))
    return _fill(
        '<div class="scroll"><table id="$name"><thead><tr>$head</tr></thead>'
        "<tbody>$body</tbody></table></div>",
        name=table.name,
        head=head,
        body=body,
    )


def _heading(heading: Heading) -> Html:
    if not heading.sort_by:
        template = '<th scope="col" class="$kind">$title</th>'
    else:
        template = (
            '<th scope="col" class="$kind" data-column="$sort_by">'
            '<button type="button">$title</button></th>'
        )
    return _fill(template, kind=heading.kind, sort_by=heading.sort_by, title=heading.title)


def _row(table: Table, number: int) -> Html:
    kinds, texts = [heading.kind for heading in table.header], table.rows[number]
    if table.sort_values:
        cells = _join(
            _fill(
                '<td class="$kind" data-value="$value">$text</td>',
                kind=kind,
                value=value,
                text=text,
            )
            for kind, text, value in zip(kinds, texts, table.sort_values[number], strict=True)
        )
    else:
        cells = _join(
            _fill('<td class="$kind">$text</td>', kind=kind, text=text)
            for kind, text in zip(kinds, texts, strict=True)
        )
    mark = Html(' class="recommended"') if number == table.marked_row else Html()
    return _fill("<tr$mark>$cells</tr>", mark=mark, cells=cells)


def _preformatted(text: str) -> Html:
    return _fill("<pre>$text</pre>", text=text)


def _folded(folded: Folded) -> Html:
    content = folded.content
    return _fill(
        "<details><summary>$summary</summary>$content</details>",
        summary=folded.summary,
        content=_table(content) if isinstance(content, Table) else _preformatted(content),
    )


def _plotly() -> Html:
    from plotly.offline import get_plotlyjs

    return _fill("<script>$plotly</script>", plotly=Html(get_plotlyjs()))
