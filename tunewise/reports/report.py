"""Reports: a study's page, Markdown, tables and images, or the page of a single run."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tunewise.errors import ConfigError
from tunewise.files import naming_the_file, write_whole
from tunewise.reports.csv_files import CSV_FILES
from tunewise.reports.figure import Figure
from tunewise.reports.markdown import render_markdown
from tunewise.reports.page import MADE_BY, Page, render_page
from tunewise.reports.run_page import build_run_page, read_run
from tunewise.reports.sections import build_sections
from tunewise.reports.summary import find_warnings, summarize
from tunewise.runs.folder import CONFIG_FILE
from tunewise.studies.compare import Comparison, compare
from tunewise.studies.trials import STUDY_FILE

logger = logging.getLogger(__name__)

PICTURES = "figures"
"""Name of the folder with an image of each figure."""
IMAGE_FORMATS = ("svg", "png")


def write_report(folder: Path, out: Path | None = None, data: Path | None = None) -> Path:
    """Write the report of a study or of a run, and return the path of its page.

    An older report is overwritten.

    Args:
        folder: the folder of a study or of a run.
        out: where to write the page; without it, report.html in the folder.
        data: the folder in which the rows of a run's named task are searched, to show them.

    Raises:
        ConfigError: if it is neither, if Plotly is not installed, or if `out` is a file that is not
            a report.
    """
    path = out or folder / "report.html"
    if (folder / CONFIG_FILE).is_file():
        page = build_run_page(read_run(folder, data))
        _write_page(path, page)
    elif not (folder / STUDY_FILE).is_file():
        raise ConfigError(
            f"{folder}: has no {CONFIG_FILE} and no {STUDY_FILE}, so it is not the folder of a run "
            "or a study"
        )
    else:
        _write_study(folder, path)
    return path


def _write_study(folder: Path, path: Path) -> None:
    """Write the report of a study.

    In the study's folder: report.md, cells.csv and the other tables, and figures/ with each figure
    as SVG and PNG if Kaleido and a Chrome browser are installed.
    """
    comparison = compare(folder)
    page = build_study_page(comparison)
    _write_page(path, page)
    write_whole(folder / "report.md", render_markdown(comparison))
    for name, table in CSV_FILES.items():
        write_whole(folder / name, table(comparison))
    figures = [figure for section in page.sections for figure in section.figures]
    _write_pictures(folder / PICTURES, figures)


def build_study_page(comparison: Comparison) -> Page:
    """Return the content of a study's page.

    Raises:
        ConfigError: if there is something to plot, and Plotly is not installed.
    """
    return Page(
        name=comparison.study.name,
        question=comparison.study.description,
        answer=summarize(comparison),
        warnings=find_warnings(comparison),
        sections=build_sections(comparison),
        files=tuple(CSV_FILES),
    )


def _write_page(path: Path, page: Page) -> None:
    """Write a page as HTML; nothing but an older report is overwritten."""
    if path.exists() and not (path.is_file() and MADE_BY in path.read_text("utf-8", "replace")):
        raise ConfigError(
            f"--out {path}: already exists and is not a report by tunewise, so it is not "
            "overwritten; give another path"
        )
    text = render_page(page)
    with naming_the_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def _write_pictures(folder: Path, figures: Sequence[Figure]) -> None:
    """Write each figure as images, if Kaleido and a browser are installed."""
    if not figures:
        return
    try:
        import kaleido  # noqa: F401  # Plotly finds it by itself
        from plotly.io import write_images
    except ImportError:
        logger.info("no images of the figures: install Kaleido with pip install 'tunewise[report]'")
        return
    folder.mkdir(exist_ok=True)
    try:
        for form in IMAGE_FORMATS:
            write_images(
                fig=[figure.plot for figure in figures],
                file=[folder / f"{figure.name}.{form}" for figure in figures],
                width=900,
                scale=2 if form == "png" else 1,
            )
    except Exception as error:  # a browser's own errors, of many kinds
        reason = " ".join(str(error).split())[:200]
        logger.info("no images of the figures: a Chrome browser is needed (%s)", reason)
