"""The scores of lmms-eval's own tasks are those that its command line prints of the same model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from staged_rows import CAPTIONED, STAGED
from staged_tasks import reader, stage

from harness.analysis.task_scores import columns_of
from harness.records.file import read_all
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
Printed = dict[str, dict[str, float]]


def run(home: Path, *command: str) -> None:
    environment = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def printed(home: Path, output: Path, arguments: str) -> Printed:
    """What lmms-eval's command line prints of every task, by metric."""
    run(
        home,
        *("lmms_eval", "--model", "pruned", "--tasks", ",".join(TASKS), "--batch_size", "1"),
        *("--model_args", f"pretrained={home / 'reader'},device=cpu{arguments}"),
        # some scores are drawn, and threads would draw in any order
        *("--process_docs_parallel", "1", "--output_path", str(output)),
    )
    (file,) = output.glob("*__reader/*_results.json")  # beside what tasks submit
    return {
        task: {key.split(",")[0]: value for key, value in found.items()}
        for task, found in json.loads(file.read_text())["results"].items()
    }


def compared(home: Path, output: Path) -> list[Record]:
    run(
        home,
        *("harness", "compare", "--methods", "vitcop,fastv", "--budgets", "64"),
        *("--model", str(home / "reader"), "--tasks", ",".join(TASKS)),
        *("--no-efficiency", "--device", "cpu", "-o", str(output)),
    )
    return list(read_all([output], pytest.fail))


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[list[Record], dict[str, Printed]]:
    """Our records, and what lmms-eval printed by cell: a process each, two at a time."""
    home = tmp_path_factory.mktemp("home")
    stage(home, HERE, ROWS)
    reader(home / "reader")
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(compared, home, home / "records")
        folders = [home / cell for cell in CELLS]
        theirs = list(pool.map(partial(printed, home), folders, CELLS.values()))
        return ours.result(), dict(zip(CELLS, theirs, strict=True))


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
