"""The HTML report in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.records.groups import read_records
from harness.tables.page import write_report

ROOT = Path(__file__).parents[2]
FIRST = ROOT / "results/first"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "report.html"
    write_report(read_records([FIRST], whole=True), output)
    return output


@pytest.fixture
def browser_page(report):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        said = []
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
        opened.goto(report.as_uri())
        yield opened
        assert said == []
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_the_table_sorts_and_the_gallery_filters(browser_page):
    opened = browser_page
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    header = opened.locator("table.sortable").first.locator("thead button", has_text="digits")
    block = opened.locator("table.sortable").first.locator("tbody").nth(3)
    column = header.evaluate("b => b.parentNode.cellIndex")

    def digits():
        rows = block.locator("tr:not(:has(.heading))")
        cells = [rows.nth(i).locator("th,td").nth(column) for i in range(rows.count())]
        texts = [cell.inner_text() for cell in cells]
        return [float(text.split()[0]) for text in texts]

    header.focus()
    opened.keyboard.press("Enter")
    assert digits() == sorted(digits(), reverse=True)
    falling = digits()
    opened.keyboard.press("Enter")
    assert digits() == falling[::-1] != falling
    assert block.locator("tr").first.locator(".heading").count() == 1
    every = opened.locator(".item:visible").count()
    opened.get_by_label("methods disagree").check()
    divided = opened.locator(".item:visible").count()
    assert 0 < divided < every
    assert opened.locator(".filters output").inner_text() == f"{divided} of {every} questions"
    opened.get_by_label("Benchmark").select_option("embedded_digits")
    assert set(opened.locator(".item:visible").evaluate_all("x => x.map(i => i.dataset.task)")) == {
        "embedded_digits"
    }
    opened.get_by_label("methods disagree").uncheck()
    opened.get_by_label("Budget").select_option("192")
    shots = opened.locator(".shot:visible[data-budget]")
    assert set(shots.evaluate_all("x => x.map(s => s.dataset.budget)")) == {"192"}
    overlay_box = shots.first.locator("svg").bounding_box()
    assert overlay_box["width"] == overlay_box["height"] > 80


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_the_answer_and_both_figures_are_on_the_first_screen(browser_page):
    browser_page.set_viewport_size({"width": 1280, "height": 800})
    shown = browser_page.locator("section.lead").first.locator("table.best, .pair figure")
    boxes = [shown.nth(i).bounding_box() for i in range(shown.count())]
    assert len(boxes) == 3
    assert all(box["y"] + box["height"] <= 800 for box in boxes)
    assert boxes[1]["y"] == boxes[2]["y"]
