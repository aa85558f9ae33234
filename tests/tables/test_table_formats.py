"""Formats of `harness table`: the same numbers in each, and names as text."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import time

import pytest
from from_bodies import laid_out
from lxml import html as lxml_html
from markdown_it import MarkdownIt
from paper_tables import RECORDS, named, paper, scores
from synthetic_records import accuracy, efficiency

from harness.cli.app import BAD_INPUT, main
from harness.records import file as records_module
from harness.tables.choices import Intervals
from harness.tables.layouts import LAYOUTS, RICH, WRITERS
from harness.tables.markup import html, latex
from harness.tables.paper import Style
from harness.tables.table import comma_separated, markdown
from harness.tables.terminal import plain

NASTY = r"<script>alert(1)</script> a_b&c $x^2$ 50% #1 {y} ~\z | `q` *s* – ü 中"


# formats


def numbers_in(text):
    return re.findall(r"\d+(?:\.\d+)?", text)


def rendered_markdown(text):
    return lxml_html.fromstring(MarkdownIt("gfm-like", {"linkify": False}).render(text))


def read_back(written, form):
    """The body of the table as [row][column] of numbers, parsed from a format."""
    if form == "html":
        rows = lxml_html.fromstring(written).xpath("//tbody/tr[td]")
        cells = [[cell.text_content() for cell in row.xpath("td")] for row in rows]
    elif form == "markdown":
        rows = [row.xpath("td") for row in rendered_markdown(written).xpath("//tbody/tr")]
        cells = [[c.text_content() for c in row[1:]] for row in rows if row[-1].text_content()]
    else:
        lines = [line for line in written.splitlines() if re.match(r"\{.*&.*\\\\$", line)][1:]
        lines = [line for line in lines if not line.startswith("{Method}")]
        cells = [re.sub(r"\\[a-z]+", "", line).split("&")[1:] for line in lines]
    return [[numbers_in(cell) for cell in row] for row in cells]


@pytest.mark.parametrize("form", ["html", "markdown", "latex"])
@pytest.mark.parametrize("intervals", list(Intervals))
def test_every_format_holds_the_same_numbers(form, intervals):
    table = paper(RECORDS, intervals=intervals, fidelity=True)
    wanted = [[numbers_in(" ".join(lines)) for lines in row[1:]] for row in table.texts()]
    assert read_back(WRITERS[form]([table]), form) == wanted


def test_csv_holds_what_is_shown_and_the_emphasis():
    table = paper(RECORDS)
    names = {column.parts[0]: i for i, column in enumerate(table.columns)}
    held = csv.DictReader(io.StringIO(comma_separated(table)))
    for index, (row, parts) in enumerate(zip(held, table.rows, strict=True)):
        for name in ("count", "digits", "average", "relative_percent"):
            assert row[name] == parts[names[name]][0]
            assert (row[f"{name}_bold"] == "yes") == ((index, names[name]) in table.bold)


def test_tables_are_the_same_byte_for_byte():
    for form, write in WRITERS.items():
        assert write([paper(RECORDS)]) == write([paper(list(reversed(RECORDS)))]), form


def test_names_show_as_text_in_every_format():
    table = paper([named(NASTY, venue=NASTY), accuracy("unpruned", None)])
    page = lxml_html.fromstring(html(table))
    assert page.xpath("//tbody/tr/th/text()")[-1] == NASTY
    assert not page.xpath("//script")
    rendered = rendered_markdown(markdown(table))
    assert NASTY in [cell.text_content() for cell in rendered.xpath("//td")]
    assert not rendered.xpath("//script")
    assert NASTY in plain(table)
    assert NASTY in comma_separated(table)
    assert r"\textless{}script\textgreater{}" in latex([table])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX is installed")
@pytest.mark.parametrize("alone", [True, False])
def test_latex_compiles_by_itself_and_within_a_document(tmp_path, alone):
    records = [*RECORDS, named(NASTY, "nasty", venue=NASTY, task="count", scores=scores(3, 0.5))]
    style = {"intervals": Intervals.SMALL, "fidelity": True}
    written = latex([paper(records, **style), *laid_out([efficiency()], None, Style())])
    (tmp_path / "table.tex").write_text(written)
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,siunitx,adjustbox}\begin{document}"
        r"\input{table}After the table.\end{document}"
    )
    name = "table" if alone else "paper"
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", f"{name}.pdf", "-"]
        text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
        assert re.search(r"<script>alert\(1\)</script> a.b&c", text)  # _ is drawn, not a letter
        assert ("After the table." in text) != alone
        assert "Retain 192 tokens" in text


# the command


def written_to(directory, records):
    for item in records:
        records_module.write(directory, item)
    return str(directory)


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("form", [RICH, *WRITERS])
def test_every_layout_in_every_format(tmp_path, capsys, layout, form):
    directory = written_to(tmp_path, [*RECORDS, efficiency()])
    assert main(["table", directory, "--layout", layout, "--format", form]) == 0
    assert "FastV" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layout", "papers"], "'paper'"),
        (["--format", "tex"], "'latex'"),
        (["--emphasis", "bold"], "'significant'"),
        (["--layout", "efficiency"], "--layout efficiency shows nothing"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(tmp_path, capsys, options, said):
    assert main(["table", written_to(tmp_path, RECORDS), *options]) == BAD_INPUT
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_an_older_task_version_is_named_and_left_out(tmp_path, capsys):
    old, new = accuracy(scores=[0.0] * 4), accuracy()
    old["identity"] = {**old["identity"], "task_version": "0.9"}
    new["provenance"] = {**new["provenance"], "created": "2026-02-01T00:00:00+00:00"}
    assert main(["table", written_to(tmp_path, [old, new]), "--layout", "paper"]) == 0
    printed = capsys.readouterr()
    assert "count of version 0.9 is left out, 1.0 is newer" in printed.err
    assert "75.0" in printed.out


def test_200_records_take_less_than_a_second(tmp_path):
    many = [
        accuracy(*((f"m{m}", 64 * b) if m else ("unpruned", None)), f"t{t}", scores(m + t, 0.5))
        for m in range(9)
        for b in ((1, 2, 3) if m else (1,))
        for t in range(8)
    ]
    directory = written_to(tmp_path, many)
    assert len(many) == 200
    for options in ([], ["--layout", "paper"]):
        spent = []
        for _ in range(3):  # the least of them: other programs on the machine can only add to it
            start = time.process_time()
            assert main(["table", directory, *options, "--format", "csv"]) == 0
            spent.append(time.process_time() - start)
        assert min(spent) < 1
