"""A report in a real browser: it draws, sorts and switches, and asks nobody for anything."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tunewise.reports.report import write_report

from .conftest import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


class Opened:
    """A page and what it has said and asked for."""

    def __init__(self, page: Page, report: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_function("document.querySelectorAll('.plot .main-svg').length > 0")


@pytest.fixture(scope="module")
def report(rich: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewise.reports.report._write_pictures", lambda *_: None)
        return write_report(rich)


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield Opened(page, report)
    page.close()


def test_it_draws_every_figure_and_needs_nothing_but_itself(opened: Opened, report: Path) -> None:
    drawn = opened.page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('svg path').length)"
    )
    assert len(drawn) >= 12
    assert all(count > 0 for count in drawn)
    assert opened.said == []
    assert opened.asked == [report.as_uri()]


def test_a_hostile_name_is_text(opened: Opened) -> None:
    assert opened.page.evaluate("window.broken") is None
    assert "<script>window.broken = 1</script>" in opened.page.inner_text("#cells")
    assert "<script>window.broken = 1</script>" in opened.page.inner_text("h1 + p")
    legend = opened.page.locator('.plot[data-figure="quality_and_cost"] .legendtext')
    assert any("<script>" in text for text in legend.all_text_contents())


def test_rows_and_answers_that_are_markup_are_text(
    browser: Browser, rich: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(rich, tmp_path / "rich"))
    markup = f"{HOSTILE}<img src=x onerror='window.broken = 2'>&lt;b&gt;"
    for path in folder.glob("runs/*/predictions.jsonl"):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for line in lines:
            line |= {"prompt": f"row {markup}", "predicted": f"answer {markup}"}
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewise.reports.report._write_pictures", lambda *_: None)
        report = write_report(folder)
    page = browser.new_page()
    opened = Opened(page, report)
    shown = page.inner_text("#answers")
    assert f"row {markup}" in shown
    assert f"answer {markup}" in shown
    assert page.evaluate("window.broken") is None
    assert page.locator("main script, main img").count() == 0
    assert opened.asked == [report.as_uri()]
    page.close()


def test_the_table_sorts_by_any_column_both_ways(opened: Opened) -> None:
    def shown() -> list[str]:
        cells: list[str] = opened.page.evaluate(
            "[...document.querySelectorAll('#cells tbody tr')]"
            ".map(row => row.cells[index('trainable')].dataset.value)"
        )
        return cells

    opened.page.evaluate(
        "window.index = name => [...document.querySelectorAll('#cells th')]"
        ".findIndex(th => th.dataset.column === name)"
    )
    heading = opened.page.locator('#cells th[data-column="trainable"]')
    heading.locator("button").click()
    numbers = [float(value) for value in shown() if value]
    assert numbers == sorted(numbers)
    assert shown()[-1] == ""  # what failed has no number, and stays last
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in shown() if value] == sorted(numbers, reverse=True)
    assert shown()[-1] == ""


def test_the_cost_axis_switches(opened: Opened) -> None:
    place = '.plot[data-figure="quality_and_cost"]'
    get = f"document.querySelector('{place}').layout.xaxis.title.text"
    xs = f"document.querySelector('{place}').data.map(trace => trace.x[0])"
    assert opened.page.evaluate(get) == "trainable parameters"
    before = opened.page.evaluate(xs)
    opened.page.select_option('select[data-figure="quality_and_cost"]', "peak memory, GiB")
    opened.page.wait_for_function(f"{get} === 'peak memory, GiB'")
    after = opened.page.evaluate(xs)
    assert len(after) == len(before)
    assert all(0 < value < 100 for value in after)
    assert after != before


def test_at_a_phone_s_width_nothing_overflows(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    Opened(page, report)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    widest = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.plot svg')]"
        ".map(svg => svg.getBoundingClientRect().right))"
    )
    assert widest <= 390
    page.close()
