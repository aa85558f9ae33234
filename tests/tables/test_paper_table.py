"""The paper's layout: blocks of budgets, holes, and honest emphasis."""

from __future__ import annotations

import csv
import io
import random

import pytest
from from_bodies import laid_out
from paper_tables import RECORDS, named, paper, scores
from synthetic_records import accuracy, efficiency, without_result

from harness.analysis.emphasis import Emphasis
from harness.tables.choices import Intervals
from harness.tables.layouts import LAYOUTS, WRITERS
from harness.tables.paper import Style
from harness.tables.table import comma_separated


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
