"""One table in every form: the same text, escaped, aligned, with no digit lost."""

from __future__ import annotations

import csv
import io
import re

import pytest
from from_bodies import tables
from screen import terminal
from synthetic_records import accuracy, efficiency, without_result

from harness.analysis.stats import Estimate
from harness.tables import numbers
from harness.tables.table import Column, Table, comma_separated, markdown
from harness.tables.terminal import plain, show

RECORDS = [
    accuracy("unpruned", None),
    accuracy("fastv", 64, scores=[1.0, 0.0, 0.0, 1.0]),
    without_result("infeasible", method="vitcop", reason="r", feasible=[8, 432]),
    *(accuracy("random", seed=seed) for seed in range(3)),
    efficiency(),
]


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "xterm")


def figures(text):
    return re.findall(r"[-+]?\d+(?:\.\d+)?", text)


@pytest.mark.usefixtures("wide")
def test_every_form_prints_the_same_numbers():
    for table in tables(RECORDS):
        shown = [
            " ".join(" ".join(lines) for line in row for lines in [line]) for row in table.texts()
        ]
        for form in (plain(table), markdown(table), terminal([table])):
            body = form.split(table.notes[0][:20])[0]
            wanted = figures(" ".join(shown))
            assert sorted(figures(body)) == sorted(wanted)
        for csv_row, text in zip(
            csv.DictReader(io.StringIO(comma_separated(table))), shown, strict=True
        ):
            held = {figure for value in csv_row.values() for figure in figures(value)}
            assert set(figures(text)) <= held


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_a_narrow_terminal_loses_no_digit(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    assert "…" not in terminal(tables(RECORDS))


def table_of(text):
    columns = (Column("Method", ("method",), left=True), Column("A|B", ("a",)))
    return Table("T", columns, (((text,), ("1",)), ((), ())), notes=("[bold]note",))


@pytest.mark.usefixtures("wide")
def test_text_is_escaped_in_every_form():
    table = table_of('a|b, "c" [red]d[/red]')
    assert '| a\\|b, "c" [red]d[/red] | 1 |' in markdown(table)
    assert "| Method | A\\|B |" in markdown(table)
    ((method, _), _) = list(csv.reader(io.StringIO(comma_separated(table))))[1:]
    assert method == 'a|b, "c" [red]d[/red]'
    assert 'a|b, "c" [red]d[/red]' in plain(table)
    assert 'a|b, "c" [red]d[/red]' in terminal([table])
    assert "[bold]note" in terminal([table])


def test_missing_is_a_dash_and_plain_columns_align():
    lines = plain(table_of("long name")).splitlines()
    assert lines[2:6] == [
        "Method     A|B",
        "---------  ---",
        "long name    1",
        "–            –",
    ]


def test_not_a_terminal_gets_no_escape_codes():
    out = io.StringIO()
    show(tables(RECORDS), out)
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (0.5, "0.500"),
        (1.234, "1.23"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.5, "1234"),
        (float("nan"), ""),
    ],
)
def test_three_significant_digits(value, text):
    assert numbers.three_digits(value) == text


def test_rounding_and_signs():
    assert numbers.number(-0.04) == "0.0"
    assert numbers.number(0.04, sign=True) == "0.0"
    assert numbers.number(1.25, sign=True) == "+1.2"
    assert numbers.estimate(Estimate(1.0, float("nan"), 2.0)) == ("1.0", "", "2.0")
    assert numbers.flops_unit([2e12, 1e9]) == (1e12, "TFLOP")
    assert numbers.flops_unit([5.0]) == (1e6, "MFLOP")
    assert numbers.bytes_unit([]) == (2.0**10, "KiB")
