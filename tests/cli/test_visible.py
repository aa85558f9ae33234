"""Nothing that a record or an answer says acts on a terminal, a page or a spreadsheet."""

from __future__ import annotations

import csv
import io
import re

import pytest
from screen import terminal
from synthetic_records import accuracy, efficiency

from harness.cli.app import main
from harness.errors import warn
from harness.records import file as records
from harness.run.progress import LiveProgress, Progress
from harness.tables.markup import html_page, latex
from harness.tables.table import Column, Table, comma_separated, markdown
from harness.tables.terminal import plain
from harness.visible import visible

ACTING = "a\x1b[31m\x07\r\n\tb\x9b\x00\x7f\u202eleft\u2066\u200b\ufeff\ud800c"
SHOWN = r"a\x1b[31m\x07\r\n\tb\x9b\x00\x7f\u202eleft\u2066\u200b\ufeff\ud800c"
UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def test_what_has_no_picture_is_shown_as_an_escape_and_all_else_is_left():
    assert visible(ACTING) == SHOWN
    plain_text = "ViTCoP – 7 µs × 2 → ∞ † 日本語 é \u0915\u094d\u0937 😀"
    assert visible(plain_text) == plain_text
    assert visible("a\nb\r", keep="\n") == "a\nb\\r"


def table() -> Table:
    columns = (Column("M" + ACTING, (ACTING, "p"), left=True, group=ACTING), Column("B", ("b",)))
    rows = (((ACTING, "1"), (ACTING,)), ((), ()))
    return Table(ACTING, columns, rows, frozenset({0}), (ACTING,), headings={0: ACTING})


@pytest.mark.parametrize("form", [plain, markdown, comma_separated])
def test_no_form_of_a_table_holds_a_letter_that_acts(form):
    text = form(table())
    assert not UNSEEN.search(text)
    assert "x1b" in text
    text.encode()


def test_neither_does_a_terminal_a_page_or_a_paper(monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    for text in (terminal([table()]), html_page([table()]), latex([table()])):
        assert not UNSEEN.search(text)
        assert "x1b" in text


def hostile(text: str) -> list[dict]:
    method = {"name": "fastv", "label": text, "venue": text, "link": ""}
    record, whole = accuracy(method="fastv", task="t"), accuracy("unpruned", None, task="t")
    for changed in (record, whole):
        changed["method"] = method
        changed["identity"] = {**changed["identity"], "model": text, "attention": text}
        changed["provenance"] = {**changed["provenance"], "cpu": text, "command": text}
        for sample in changed["samples"]:
            sample.update(answer=text, target=text)
    run = efficiency()
    for cell in run["cells"]:
        cell["method"] = method
    return [whole, record, run]


def test_no_command_lets_a_record_speak_to_the_terminal(tmp_path, capsys):
    text = ACTING.replace("\ud800", "")
    paths = [records.write(tmp_path, record) for record in hostile(text)]
    directory = str(tmp_path)
    for command in (
        ["table", directory],
        ["table", directory, "--layout", "paper", "--format", "markdown"],
        ["table", directory, "--format", "csv"],
        *(["show", str(path)] for path in paths),
        ["show", directory, "--item", "t/1"],
        ["show", directory, "--item", text],
        ["regress", "--against", directory, directory],
    ):
        status = main(command)
        printed = capsys.readouterr()
        assert status in (0, 2)
        assert not UNSEEN.search(printed.out + printed.err), command
        assert status or "x1b" in printed.out or command[0] == "regress"


def test_a_report_holds_no_letter_that_acts(tmp_path):
    output = tmp_path / "page.html"
    for record in hostile(ACTING.replace("\ud800", "")):
        records.write(tmp_path, record)
    assert main(["report", str(tmp_path), "-o", str(output)]) == 0
    assert not UNSEEN.search(output.read_text())


def test_warnings_and_progress_hold_none_either(capsys):
    warn(ACTING)
    assert capsys.readouterr().err == f"harness: {SHOWN}\n"
    for kind in (Progress, LiveProgress):
        out = io.StringIO()
        progress = kind(out, str)
        progress.expect(2)
        progress.begin(ACTING)
        progress.advance(1, 2)
        progress.step(ACTING, 1, 2)
        progress.end(ACTING)
        progress.stop()
        assert not UNSEEN.search(re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]|\r", "", out.getvalue()))


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("-7.0", "-7.0"),
        ("+0.5", "+0.5"),
        ("-12", "-12"),
        ("a=1", "a=1"),
        ("\t=1", "\\t=1"),
        ("–", "–"),
    ],
)
def test_no_cell_of_a_csv_begins_a_formula(text, held):
    columns = (Column("A", (text, "b")), Column("C", ("c",)))
    found = comma_separated(Table("T", columns, (((text, text), ("1",)),)))
    assert list(csv.reader(io.StringIO(found))) == [[held, "b", "c"], [held, held, "1"]]
