"""The leaderboard: what stands together, in which order, what is refused, and the page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from lxml import html as lxml_html
from record_sets import NEW, OLD, alike, made, with_identity
from synthetic_records import accuracy, efficiency, without_result

from harness.analysis.boards import boards
from harness.cli.app import BAD_INPUT, main
from harness.records.groups import all_records
from harness.tables.board import board_table, page, write_board

ROOT = Path(__file__).parents[2]
FIRST, METHODS = ROOT / "results/first", ROOT / "results/methods"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def committed():
    return {path: all_records([path], print) for path in (FIRST, METHODS)}


@pytest.fixture(scope="module")
def text(committed):
    return page(committed)


def table_of(sets):
    (board,) = boards(sets)
    return board_table(board)


def column(table, title):
    (place,) = (i for i, shown in enumerate(table.columns) if shown.title == title)
    return [row[place] for row in table.rows]


# what compares


def test_code_and_batch_size_may_differ_and_each_is_held_against_its_own_unpruned(tmp_path):
    worse = [accuracy("unpruned", None, scores=[1.0] * 54 + [0.0] * 6), NEW[1]]
    worse = [with_identity(record, code_digest="new", batch_size=8) for record in worse]
    table = table_of(made(tmp_path, old=OLD, new=worse))
    assert [parts[0] for parts in column(table, "Method")] == [
        *("Unpruned", "Unpruned", "ViTCoP", "FastV")
    ]
    assert [parts[0] for parts in column(table, "Difference")[2:]] == ["-6.7", "-50.0"]
    assert [parts[0] for parts in column(table, "From")] == ["¹", "²", "²", "¹"]


def test_bold_is_tested_across_the_sets(tmp_path):
    table = table_of(made(tmp_path, old=OLD, new=NEW))
    assert {row for row, _ in table.bold} == {2}
    near = alike("vitcop", [1.0] * 32 + [0.0] * 28, code_digest="new")
    table = table_of(made(tmp_path, old=OLD, near=near))
    assert {row for row, _ in table.bold} == {2, 3}


@pytest.mark.parametrize(
    "changes",
    [
        {"limit": 60},
        {"samples_per_task": 60, "sample": 1},
        {"dtype": "float16"},
        {"protocol": "llava"},
        {"attention": "eager"},
    ],
)
def test_other_questions_or_another_way_to_ask_is_another_table(tmp_path, changes):
    assert len(boards(made(tmp_path, old=OLD, new=alike("vitcop", [1.0] * 60, **changes)))) == 2


def test_scores_of_another_scale_are_another_table(tmp_path):
    """What is in percent where no score is above 1 is in points elsewhere."""
    points = alike("vitcop", [2.0] * 60, code_digest="new")
    assert len(boards(made(tmp_path, old=OLD, new=points))) == 2


def test_each_model_has_a_section(tmp_path):
    other = alike("vitcop", [1.0] * 60, model="other", model_digest="fedcba")
    assert [board.model for board in boards(made(tmp_path, old=OLD, new=other))] == [
        "other",
        "tiny",
    ]


def test_a_copy_of_a_set_adds_nothing(tmp_path):
    table = table_of(made(tmp_path, old=OLD, copied=OLD))
    assert len(table.rows) == 2


def test_unpruned_then_small_budgets_first_and_failed_cells_last(tmp_path):
    cells = [*OLD, accuracy("fastv", 128, scores=[1.0] * 60)]
    failed = without_result("failed", method="vitcop", budget=64, reason="no memory")
    table = table_of(made(tmp_path, old=[*cells, failed]))
    budgets = [table.headings[row].split()[1] for row in sorted(table.headings)]
    assert budgets == ["bound:", "64", "128"]
    assert column(table, "Method")[2][0] == "ViTCoP"
    assert "ViTCoP, 64 tokens: FAILED in count: no memory" in table.notes


def test_a_speed_up_is_that_of_the_same_set(tmp_path):
    table = table_of(made(tmp_path, old=[*OLD, efficiency()], new=NEW))
    assert column(table, "Speed-up")[3][0] == "1.93"
    again = [with_identity(record, code_digest="again") for record in OLD]
    table = table_of(made(tmp_path, old=[*OLD, efficiency()], again=again))
    assert [parts[0] for parts in column(table, "Speed-up")[2:]] == ["1.93", ""]


def test_dirty_commits_are_shown_as_such(tmp_path):
    table = table_of(
        made(tmp_path, old=OLD, new=alike("vitcop", [1.0] * 60, dirty=True, code_digest="n"))
    )
    assert [parts[1] for parts in column(table, "From")] == ["", "dirty", "dirty", ""]
    assert [("(dirty)" in note) for note in table.notes] == [False, True]


# the page


def test_an_existing_page_is_kept_unless_forced(tmp_path, capsys):
    made(tmp_path, old=OLD)
    command = ["leaderboard", str(tmp_path / "old"), "-o", str(tmp_path / "index.html")]
    assert main(command) == 0
    assert main(command) == BAD_INPUT
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


def test_committed_records_are_ranked(committed):
    many, few = boards(committed)
    assert [source.directory for source in (*many.sources, *few.sources)] == [METHODS, FIRST]
    for ranking in (*many.rankings, *few.rankings):
        means = [entry.mean for entry in ranking.entries if entry.line.row.complete]
        assert means == sorted(means, reverse=True)


def test_every_block_sorts_and_says_how_it_is_sorted(text):
    tree = lxml_html.fromstring(text)
    tables = tree.xpath("//table[contains(@class, 'sortable')]")
    assert len(tables) == 2
    for table in tables:
        assert table.xpath("thead//th[@aria-sort='descending']/text()") == ["Mean"]
        assert all(len(body.xpath("tr/th[@class='heading']")) == 1 for body in table.xpath("tbody"))
    assert "table.sortable" in tree.xpath("string(//script)")


def test_the_page_fetches_nothing_and_is_whole_without_javascript(text):
    tree = lxml_html.fromstring(text)
    assert not re.search(r'(?:src|href)="https?:', re.sub(r'<a href="https?:', "", text))
    assert not re.search(r"url\((?!#)|@import", text)
    assert not tree.xpath("//main//*[@hidden]")
    assert "https://arxiv.org/abs/2601.17818" in tree.xpath("//main//a/@href")
    words = " ".join(tree.xpath("string(//main)").split())
    assert f"{FIRST} · model embedded 12db03d3ff" in words
    assert "commit a53824be65" in words
    assert "FitPrune, 64 tokens: infeasible (73–576)" in words
    assert not re.search(r"\bnan\b", words)


def test_hostile_names_are_text(tmp_path):
    record = {**OLD[1], "method": {**OLD[1]["method"], "label": HOSTILE, "link": "javascript:x"}}
    made(tmp_path, old=[OLD[0], record])
    write_board([tmp_path / "old"], tmp_path / "index.html", print)
    tree = lxml_html.fromstring((tmp_path / "index.html").read_text())
    assert len(tree.xpath("//script")) == 1
    assert HOSTILE in tree.xpath("string(//main)")
    assert not tree.xpath("//a[starts-with(@href, 'javascript')]")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_it_fits_a_phone_and_a_block_turns_round(text, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "index.html"
    file.write_text(text)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 390, "height": 844})
        opened.goto(file.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390
        table = opened.locator("table.sortable").first
        rows = table.locator("tbody").nth(1).locator("tr:not(:has(.heading)) th")
        assert rows.first.inner_text() == "PyramidDrop"
        table.locator("thead button", has_text="Mean").click()
        assert rows.first.inner_text() == "Pooling†"
        browser.close()
