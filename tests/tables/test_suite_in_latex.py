"""A suite of many benchmarks on a page of LaTeX: readable, and with the reason of every hole."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from from_bodies import configurations
from synthetic_records import accuracy, without_result

from harness.records.suites import SUITES
from harness.tables.markup import latex
from harness.tables.paper import Style, paper_table

TASKS = (
    *SUITES["vitcop-image"].tasks,
    "textvqa_val",
    "seedbench",
    "mmmu_val",
    "ocrbench",
    "mmstar",
)
FAILED = "InfeasibleBudgetError: FastV cannot meet 64 visual tokens a layer"


def records():
    made = [
        accuracy(method, budget, task=task)
        for method, budget in (("unpruned", None), ("vitcop", 64), ("fastv", 64))
        for task in TASKS
    ]
    failed = without_result("failed", method="fastv", task="mmmu_val", reason=FAILED)
    return [r for r in made if (r["cell"], r["identity"]["task"]) != ("fastv@64", "mmmu_val")] + [
        failed
    ]


def suite_table():
    return paper_table(configurations(records())[0], Style())


def heights(page: str, word: str) -> list[float]:
    """Of the lines that hold a word, in points."""
    found = re.findall(rf'yMin="([\d.]+)" xMax="[\d.]+" yMax="([\d.]+)">{word}<', page)
    return [float(bottom) - float(top) for top, bottom in found]


def test_a_task_that_failed_says_so_beside_tasks_that_did_not():
    notes = suite_table().notes
    assert any(note.endswith(f"FAILED in mmmu_val: {FAILED}") for note in notes)
    assert notes[-1].startswith("4 questions a task · ")


def test_headings_are_no_wider_than_their_words():
    written = latex([suite_table()])
    assert r"{\shortstack{mmbench\_\\en\_dev\_\\static}} & {mme}" in written
    assert r"{\shortstack{Relative\\\%}}" in written


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX is installed")
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no poppler is installed")
def test_a_suite_is_set_in_letters_that_can_be_read(tmp_path):
    (tmp_path / "table.tex").write_text(latex([suite_table()]))
    for command in (
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        ["pdftotext", "-bbox", "table.pdf", "page.html"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout
    page = (tmp_path / "page.html").read_text()
    (table,), (note,) = heights(page, "Tokens"), heights(page, "Tokens:")
    assert table > 0.9 * note
