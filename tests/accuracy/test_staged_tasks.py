"""The scores of lmms-eval's own tasks are those that its command line prints of the same model."""

from __future__ import annotations

import shutil

import pytest
import staged_runs
from staged_rows import CAPTIONED, STAGED
from staged_tasks import reader, stage

from harness.analysis.task_scores import columns_of
from harness.records.record import Record
from harness.records.suites import suite
from harness.tables.layouts import tables

ROWS = 24
CELLS = {
    "unpruned": "",
    "vitcop@64": ",method=vitcop,budget=64",
    "fastv@64": ",method=fastv,budget=64",
}
# captions are scored by Java; test_staged_refusals.py holds what is said where there is none
HERE = STAGED + (CAPTIONED if shutil.which("java") else ())
TASKS = tuple(dict.fromkeys(data.task for data in HERE))


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[list[Record], dict[str, staged_runs.Printed]]:
    """Our records, and what lmms-eval printed by cell."""
    home = tmp_path_factory.mktemp("home")
    stage(home, HERE, ROWS)
    reader(home / "reader")
    words = "--methods vitcop,fastv --budgets 64"
    return staged_runs.both(home, home / "reader", TASKS, words, CELLS)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_scores_are_those_of_lmms_evals_command_line(both, cell):
    ours, theirs = both
    found = {record.task: record for record in ours if record.cell.text == cell}
    assert found.keys() == set(TASKS)
    for task, record in found.items():
        assert len(record.samples) == ROWS
        assert record.body["printed"]
        for metric, value in record.body["printed"].items():
            assert value == theirs[cell][task][metric], (task, metric)
        for column in columns_of([record]):
            known = sum(theirs[cell][task].get(part, 0) for part in column.metric.parts)
            shown = column.scores(record).values.mean()
            assert shown == pytest.approx(column.metric.scale * known, abs=1e-3), column.title


@pytest.mark.slow
def test_answers_are_right_and_wrong(both):
    for record in both[0]:
        where = record.cell.text, record.task
        column = columns_of([record])[0]
        shown = column.scores(record).values.mean()
        assert shown > 0, where
        assert shown < 100 or column.unit != "%", where
        # a score of all questions together, as CIDEr, has none of each
        assert len(set(record.samples.scores) - {None}) != 1, where


@pytest.mark.slow
def test_ocrbench_adds_no_cell_to_the_next(both):
    """Its aggregation adds to what its module holds: a process of lmms-eval has one cell."""
    ours, theirs = both
    apart = {cell: found["ocrbench"]["ocrbench_accuracy"] for cell, found in theirs.items()}
    one = {r.cell.text: r.body["printed"] for r in ours if r.task == "ocrbench"}
    assert {cell: found["ocrbench_accuracy"] for cell, found in one.items()} == apart
    assert all(0 < score < ROWS / 1000 for score in apart.values())


@pytest.mark.slow
def test_a_table_of_several_units_averages_what_is_left_of_unpruned(both):
    (table,) = tables(both[0])
    titles = [column.title for column in table.columns]
    assert {"pope accuracy", "pope F1", "mme total", "mme perception"} <= set(titles)
    assert "Mean, % of unpruned" in titles
    rows = {row[0][0]: row for row in table.rows}
    assert float(rows["Unpruned"][titles.index("mme total")][0]) > 100


def test_every_task_of_the_suite_is_staged():
    staged = {data.task for data in (*STAGED, *CAPTIONED)}
    assert set(suite("vitcop-image").tasks) < staged
    assert len(staged) == len(suite("vitcop-image").tasks) + 5
