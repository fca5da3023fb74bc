"""A study's folder becomes a report: a page, Markdown, tables, pictures."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tunewise.errors import ConfigError
from tunewise.files import naming_the_file, write_whole
from tunewise.reports.markdown import markdown
from tunewise.reports.page import MADE_BY, page
from tunewise.reports.sections import Section, sections
from tunewise.reports.tables import TABLES
from tunewise.studies.compare import compare

logger = logging.getLogger(__name__)

PICTURES = "figures"
FORMATS = ("svg", "png")


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a study and return its page; a report written before is replaced.

    In the study's folder: report.md, cells.csv and the other tables, and figures/ with each figure
    as SVG and PNG where Kaleido and a Chrome browser are at hand.

    Args:
        folder: the study's.
        out: the page; without it, report.html in the folder.

    Raises:
        ConfigError: if it is not the folder of a study, if Plotly is not installed, or if `out` is
            a file of somebody else's.
    """
    comparison = compare(folder)
    figures = sections(comparison)
    path = out or folder / "report.html"
    if path.exists() and not (path.is_file() and MADE_BY in path.read_text("utf-8", "replace")):
        raise ConfigError(f"--out {path}: is no report by tunewise, and nothing is overwritten")
    with naming_the_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page(comparison, figures))
    write_whole(folder / "report.md", markdown(comparison))
    for name, table in TABLES.items():
        write_whole(folder / name, table(comparison))
    _write_pictures(folder / PICTURES, figures)
    return path


def _write_pictures(folder: Path, sections: Sequence[Section]) -> None:
    """Write each figure as pictures, if there is what draws them."""
    figures = [figure for section in sections for figure in section.figures]
    if not figures:
        return
    try:
        import kaleido  # noqa: F401  # Plotly finds it by itself
        from plotly.io import write_images
    except ImportError:
        logger.info("no pictures of the figures: pip install 'tunewise[report]' brings Kaleido")
        return
    folder.mkdir(exist_ok=True)
    try:
        for form in FORMATS:
            write_images(
                fig=[figure.plot for figure in figures],
                file=[folder / f"{figure.name}.{form}" for figure in figures],
                width=900,
                scale=2 if form == "png" else 1,
            )
    except Exception as error:  # a browser's own errors, of many kinds
        reason = " ".join(str(error).split())[:200]
        logger.info("no pictures of the figures: a Chrome browser is needed (%s)", reason)
