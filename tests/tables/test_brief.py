"""Tables at a glance: no wider than they may be, every number whole, what is left out named."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path

import pytest
from from_bodies import tables
from screen import terminal
from synthetic_records import accuracy, without_result

from harness.records.file import read_all
from harness.tables.brief import at_a_glance, brief, fitted, larger_half
from harness.tables.layouts import LAYOUTS
from harness.tables.paper import Style
from harness.tables.table import comma_separated, markdown
from harness.tables.terminal import WIDTH, plain, width_of

RESULTS = Path(__file__).parents[2] / "results"


def committed(name):
    return [t for t in tables(read_all([RESULTS / name], pytest.fail)) if brief(t).is_brief]


@pytest.fixture(scope="module")
def held():
    return committed("benchmark")[0]


def words(text):
    return re.findall(r"[^\s]+", text)


@pytest.mark.parametrize("name", ["first", "benchmark", "methods", "baselines/embedded"])
def test_no_line_is_wider_than_it_may_be(name):
    found = committed(name)
    assert found
    for table in at_a_glance(found, io.StringIO()):
        lines = plain(table).splitlines()
        assert max(map(len, lines)) <= WIDTH
        assert len(lines) > len(table.rows)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrower_terminal_drops_whole_columns_and_says_so(held, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    whole, narrow = brief(held), fitted(brief(held), width)
    assert width_of(whole) > width >= width_of(narrow)
    kept = [column.title for column in narrow.columns]
    dropped = [column.title for column in whole.columns if column.title not in kept]
    assert dropped[-1] == "Prefill FLOPs"
    (note,) = [note for note in narrow.notes if note.startswith("For want of width")]
    assert all(title in note for title in dropped)
    assert {"Method", "Tokens counted", "Mean", "Against unpruned"} <= set(kept)
    shown = words(terminal([narrow]))
    assert set(words(" ".join(plain(narrow).splitlines()[2 : 5 + len(narrow.rows)]))) <= set(shown)
    assert max(map(len, terminal([narrow]).splitlines())) <= width


@cache
def every_committed(layout):
    folders = sorted({path.parent for path in RESULTS.rglob("*-*.json.gz")})
    records = [list(read_all([folder], pytest.fail)) for folder in folders]
    return [table for found in records for table in LAYOUTS[layout](found, Style())]


@pytest.mark.parametrize("width", [80, 100, 112, 160])
@pytest.mark.parametrize("layout", ["accuracy", "efficiency", "paper"])
def test_every_committed_table_is_whole_at_every_width(width, layout, monkeypatch):
    """No line is wider than the terminal, no number of a column that is shown is missing."""
    monkeypatch.setenv("COLUMNS", str(width))
    for table in every_committed(layout):
        shown = fitted(brief(table), width)
        lines = terminal([shown]).splitlines()
        assert max(map(len, lines)) <= width
        words = set(" ".join(lines).split())
        for row in shown.rows:
            assert {word for (text,) in filter(None, row) for word in text.split()} <= words


def test_a_wide_table_has_one_number_a_column(held):
    table = brief(held)
    for row in table.rows:
        for parts in row[1:]:
            assert re.fullmatch(r"|(≈ )?[+-]?[\d.]+( %| ±[\d.]+)?", "".join(parts))
    blocks = [table.headings[row] for row in sorted(table.headings)]
    assert blocks == [f"{b} tokens a layer" for b in (192, 128, 64)]
    assert table.title == "Accuracy · embedded · 300 questions a task"


def test_the_numbers_are_those_of_the_whole_table(held):
    for row, whole in zip(brief(held).rows, held.rows, strict=True):
        means = {column.title: parts for column, parts in zip(held.columns, whole, strict=True)}
        assert row[0] == means["Method"]
        assert row[1] == means["Tokens"]
        mean, low, high, _ = means["Mean"]
        assert row[7][0] == mean + larger_half(mean, low, high)


def test_the_farther_end_is_told():
    assert larger_half("1.0", "0.5", "1.2") == " ±.5"
    assert larger_half("-10.1", "-12.1", "-8.2") == " ±2.0"
    assert larger_half("3.0", "", "") == ""


def test_what_is_not_significant_is_marked_and_why_a_cell_has_no_numbers_is_told():
    same = accuracy("fastv", 64, scores=[1.0, 0.0, 1.0, 1.0])
    nothing = without_result("infeasible", method="vitcop", reason="r", feasible=[8, 432])
    (table,) = tables([accuracy("unpruned", None), same, nothing])
    text = plain(brief(table))
    assert "≈" in text
    assert "ViTCoP, 64 tokens: infeasible (8–432)" in text


def test_csv_has_everything_and_markdown_what_is_brief(held):
    assert "mean_low" in comma_separated(held)
    assert "| **64 tokens a layer** |" in markdown(brief(held))
