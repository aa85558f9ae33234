"""Layouts and formats of `harness table`: honest emphasis, holes, and the same numbers in each."""

from __future__ import annotations

import csv
import io
import random
import re
import shutil
import subprocess
import time

import pytest
from from_bodies import configurations, laid_out
from lxml import html as lxml_html
from markdown_it import MarkdownIt
from synthetic_records import accuracy, efficiency, without_result

from harness.analysis.emphasis import Emphasis
from harness.cli.app import BAD_INPUT, main
from harness.records import file as records_module
from harness.tables.choices import Intervals
from harness.tables.layouts import LAYOUTS, RICH, WRITERS
from harness.tables.markup import html, latex
from harness.tables.paper import Style, paper_table
from harness.tables.table import comma_separated, markdown
from harness.tables.terminal import plain

NASTY = r"<script>alert(1)</script> a_b&c $x^2$ 50% #1 {y} ~\z | `q` *s* – ü 中"


def paper(records, **style):
    groups, _ = configurations(records)
    return paper_table(groups, Style(**style))


def named(label, method="fastv", venue="ECCV 2024", **fields):
    made = accuracy(method, **fields)
    return {**made, "method": {**made["method"], "label": label, "venue": venue}}


def scores(seed, rate, items=300):
    drawn = random.Random(seed)
    return [float(drawn.random() < rate) for _ in range(items)]


RECORDS = [
    accuracy("unpruned", None, task="count", scores=scores(0, 0.9)),
    accuracy("unpruned", None, task="digits", scores=scores(1, 0.8)),
    *(
        accuracy(method, budget, task=task, scores=scores(hash_, rate))
        for hash_, (method, budget, task, rate) in enumerate(
            (method, budget, task, rate)
            for method, rate in (("fastv", 0.5), ("vitcop", 0.8), ("random", 0.52))
            for budget in (192, 64)
            for task in ("count", "digits")
        )
    ),
]


def bold_of(table):
    """{(row label, column title)} of what is bold."""
    return {(table.rows[row][0][2], table.columns[column].title) for row, column in table.bold}


# blocks


def test_blocks_are_headed_by_their_budget_and_the_share_that_is_dropped():
    table = paper(RECORDS)
    assert list(table.headings.values()) == [
        "Upper bound: 576 tokens (100 %)",
        "Retain 192 tokens (↓ 66.7 %)",
        "Retain 64 tokens (↓ 88.9 %)",
    ]


def test_the_average_relative_to_unpruned_is_the_mean_of_the_benchmarks_percentages():
    half = [
        accuracy("unpruned", None, task="a", scores=[1.0] * 4),
        accuracy("unpruned", None, task="b", scores=[1.0, 0.0, 1.0, 0.0]),
        accuracy(task="a", scores=[1.0, 1.0, 0.0, 0.0]),
        accuracy(task="b", scores=[1.0, 0.0, 1.0, 0.0]),
    ]
    (_, fastv) = csv.DictReader(io.StringIO(comma_separated(paper(half))))
    assert (fastv["average"], fastv["relative_percent"]) == ("50.0", "75.0")


def test_several_models_merge_and_a_hole_is_a_dash_with_a_footnote():
    other = named("FastV", task="count")
    other["identity"] = {**other["identity"], "model": "big", "model_digest": "f" * 16}
    table = paper([*RECORDS, other])
    assert "big · Retain 64 tokens" in table.headings.values()
    pairs = zip(table.rows, table.texts(), strict=True)
    rows = {(row[0][0], row[0][2]): text for row, text in pairs}
    digits = [column.title for column in table.shown()].index("digits")
    (mark,) = {note[0] for note in table.notes if note.endswith(" not measured")}
    assert rows["big", "FastV"][digits] == [f"–{mark}"]
    assert any("averages over count" in note for note in table.notes)


def test_failed_and_infeasible_cells_have_their_reason_in_a_footnote_and_no_number():
    failed = without_result("failed", method="vitcop", task="count", reason="OutOfMemoryError: x")
    infeasible = without_result(
        "infeasible", method="sparsevlm", budget=20, reason="r", feasible=[57, 576]
    )
    table = paper([accuracy("unpruned", None), failed, infeasible])
    assert table.failed
    assert any(note.endswith("FAILED in count: OutOfMemoryError: x") for note in table.notes)
    assert any(note.endswith("infeasible (57–576)") for note in table.notes)
    for row in list(csv.DictReader(io.StringIO(comma_separated(table))))[1:]:
        assert row["count"] == row["average"] == ""


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("items", [[], [0.0] * 5, [1.0]])
def test_no_items_equal_scores_and_one_item_give_a_table(layout, items):
    ledger = {} if items else {"ledger": []}
    some = [
        accuracy("unpruned", None, scores=items, **ledger),
        accuracy("fastv", scores=items, **ledger),
        accuracy("random", scores=items, **ledger),
        efficiency(),
    ]
    (table,) = laid_out(some, layout, Style(intervals=Intervals.SMALL))
    for write in WRITERS.values():
        assert "nan" not in write([table]).lower()


def test_an_incomplete_unpruned_run_is_compared_with_in_no_layout():
    whole = [accuracy("unpruned", None, task=task) for task in ("count", "digits")]
    pruned = [accuracy(task=task, scores=[0.0] * 4) for task in ("count", "digits")]

    def differences(records):
        (paper,) = laid_out(records, "paper", Style(fidelity=True))
        (accuracy_,) = laid_out(records, "accuracy", Style())
        (long,) = laid_out(records, "long", Style())
        held = {
            name: next(row for row in found if row["method"] == "FastV")[name]
            for table, names in (
                (paper, ("relative_percent", "same")),
                (accuracy_, ("diff", "p")),
                (long, ("diff", "p")),
            )
            for found in [list(csv.DictReader(io.StringIO(comma_separated(table))))]
            for name in names
        }
        return {name for name, text in held.items() if text}

    assert differences([*whole, *pruned]) == {"relative_percent", "same", "diff", "p"}
    assert differences([whole[0], *pruned]) == set()


# emphasis


def test_two_copies_of_a_method_are_never_told_apart():
    for seed in range(20):
        best = accuracy("vitcop", scores=scores(seed, 0.7))
        records = [
            accuracy("unpruned", None, scores=scores(99, 0.9)),
            best,
            *(named(f"copy {i}", f"copy{i}", scores=scores(seed + 50, 0.66)) for i in (1, 2)),
        ]
        bold = bold_of(paper(records))
        assert {c for m, c in bold if m == "copy 1"} == {c for m, c in bold if m == "copy 2"}


def test_a_planted_difference_of_5_points_over_1500_items_is_told():
    tasks = [f"task{i}" for i in range(5)]
    upper, strong, weak = {}, {}, {}
    for i, task in enumerate(tasks):
        strong[task] = scores(i, 0.7)
        right = [n for n, score in enumerate(strong[task]) if score]
        lost = set(random.Random(i).sample(right, 15))
        weak[task] = [0.0 if n in lost else score for n, score in enumerate(strong[task])]
        upper[task] = [1.0] * 300
    records = [
        *(accuracy("unpruned", None, task=t, scores=upper[t]) for t in tasks),
        *(accuracy("vitcop", task=t, scores=strong[t]) for t in tasks),
        *(accuracy("fastv", task=t, scores=weak[t]) for t in tasks),
    ]
    assert {m for m, column in bold_of(paper(records)) if column == "Average"} == {"ViTCoP"}


def test_what_is_within_noise_of_the_best_is_bold_too_unless_only_the_best_is_asked_for():
    near = scores(5, 0.7)
    records = [
        accuracy("vitcop", scores=near),
        accuracy("fastv", scores=[1 - near[0], *near[1:]]),
        accuracy("sparsevlm", scores=[0.0] * 300),
    ]
    assert {m for m, _ in bold_of(paper(records))} == {"ViTCoP", "FastV"}
    assert len({m for m, _ in bold_of(paper(records, emphasis=Emphasis.BEST))}) == 1
    assert not paper(records, emphasis=Emphasis.NONE).bold


def test_unpruned_is_never_emphasised():
    assert "Unpruned" not in {method for method, _ in bold_of(paper(RECORDS))}


def test_a_method_no_better_than_random_is_marked():
    table = paper(RECORDS)
    marked = {row[0][2] for row in table.rows if row[0][3]}
    assert marked == {"FastV"}
    assert any(note.startswith("† not significantly better than Random") for note in table.notes)


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
